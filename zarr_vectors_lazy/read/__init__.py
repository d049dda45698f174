"""A selection becomes Dask arrays: metadata on demand, chunks chosen, cells fetched and decoded."""
