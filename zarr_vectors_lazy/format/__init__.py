"""Bytes to arrays and attributes to the model, with a folder for each generation; no I/O."""
