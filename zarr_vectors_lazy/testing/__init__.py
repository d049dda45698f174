"""Helpers for tests, also for those of other packages: counts of this process's requests, and stores that fail."""

from zarr_vectors_lazy.storage.requests import Counts, counting, reset, snapshot
from zarr_vectors_lazy.testing.faults import KINDS, Fault, FaultyStore, Kind, kinds_happened

__all__ = ["KINDS", "Counts", "Fault", "FaultyStore", "Kind", "counting", "kinds_happened", "reset", "snapshot"]
