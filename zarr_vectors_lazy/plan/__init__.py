"""From a selection to the chunks that it needs."""
