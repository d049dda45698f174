"""The requests that `fetch` answers; they live below this layer, where pure code can make them."""

from zarr_vectors_lazy.requests import Get, ListDir, ListSizes, Put, Request

__all__ = ["Get", "ListDir", "ListSizes", "Put", "Request"]
