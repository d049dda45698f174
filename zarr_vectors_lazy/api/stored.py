"""A level into a store: attributes beside its data, and what is selected as a store of its own."""

from typing import TYPE_CHECKING, Any

import dask

from zarr_vectors_lazy.api.progress import computing
from zarr_vectors_lazy.api.write_args import check_name
from zarr_vectors_lazy.graph.add_attribute import add_attribute
from zarr_vectors_lazy.graph.view import LevelView

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.store import ZVStore


class Stored:
    """What a level writes; `ZVLevel` has these methods."""

    _store: "ZVStore"
    _view: LevelView

    def write_attribute(self, name: str, values: Any, *, compute: bool = True, progress: bool = False) -> Any:
        """Write a new vertex attribute beside the data of a level, chunk by chunk; open the store anew to read it.

        Parameters
        ----------
        name
            Of the attribute; the level has none of that name.
        values
            (N,) or (N, C) NumPy or Dask array aligned with `vertices`, such as one computed from them and other
            attributes: numbers, truth values, or (N,) text (None: missing), which is dictionary-encoded. Where chunk
            sizes are unknown it has a block for each chunk.
        compute
            False: return a Delayed that does it.
        progress
            Show a bar.

        Returns
        -------
        int
            How many chunks have values.

        Raises
        ------
        SelectionError
            If the level is a selection, has such an attribute, or the values are not aligned with it.
        FormatError
            If the store is of format 0.7 (`migrate` it first).
        StoreError
            If a put fails; the attribute is not there then.
        """
        check_name(name, "attribute")
        job = add_attribute(self._view, name, values)
        if not compute:
            return job
        with computing(f"write {name}", shown=progress):
            return dask.compute(job)[0]
