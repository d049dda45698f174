"""File formats, one module for each family: a file becomes `Loaded`, and an `Outgoing` becomes a file."""
