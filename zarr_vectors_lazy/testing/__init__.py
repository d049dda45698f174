"""What downstream tests need too: counts of the requests that this process makes."""

from zarr_vectors_lazy.storage.counters import Counts, counting, reset, snapshot

__all__ = ["Counts", "counting", "reset", "snapshot"]
