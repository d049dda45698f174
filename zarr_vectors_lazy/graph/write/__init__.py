"""Writes as Dask graphs."""
