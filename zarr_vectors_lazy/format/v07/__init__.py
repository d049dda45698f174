"""Stores written by zarr-vectors 0.2.0: format 0.7."""
