"""Bytes to arrays and attributes to the model, one generation a folder; no I/O."""
