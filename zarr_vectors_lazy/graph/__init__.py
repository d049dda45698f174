"""Plans as Dask graphs."""
