"""The requests that `fetch` answers; they live below this layer, where pure code can make them."""

from zarr_vectors_lazy.requests import Delete, Get, ListDir, ListSizes, Put, Request

__all__ = ["Delete", "Get", "ListDir", "ListSizes", "Put", "Request"]
