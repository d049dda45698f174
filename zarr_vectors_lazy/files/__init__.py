"""Files of the field, one module a family of formats: they give `Loaded`, and write what `Outgoing` tells."""
