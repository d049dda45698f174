"""Whether a store is what its format says."""
