"""Stores written by zarr-vectors 0.9.x."""
