"""A selected level: which chunks, which of their rows, and the graph pieces that all its members share."""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.model.objects import Manifests
from zarr_vectors_lazy.plan.blocks import Chunking, cut_blocks
from zarr_vectors_lazy.plan.selection import Selection
from zarr_vectors_lazy.read.cells import Role
from zarr_vectors_lazy.read.layers import Member, Reads, shared_reads
from zarr_vectors_lazy.read.level import LevelData, Source
from zarr_vectors_lazy.read.objects import read_ids, read_manifests
from zarr_vectors_lazy.settings import block_nbytes
from zarr_vectors_lazy.types import BoolArray, IntArray

VERTICES, FRAGMENTS, HEADS = "vertices", "fragments", "heads"
MANIFESTS = "_manifests"


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A layer's name and the graph that holds it: keys are ``(name, chunk)``."""

    name: str
    graph: HighLevelGraph


@dataclass(frozen=True, eq=False, repr=False)
class LevelView:
    """Part of a level, described but not read.

    Parameters
    ----------
    data
        The level's metadata.
    selection
        The conditions that rows must meet.
    chunking
        How chunks are cut into Dask blocks.
    rows
        Rows of the level's chunk table that the selection may touch, ascending; None for all.
    boxed
        For each of them, whether all its vertices lie in the box; None if they do.
    counted
        For each of them, the number of selected rows, if known.
    touched
        Views in which each selected object must have a row.
    apart
        For each of them, the rows of the chunk, if edges, faces and links do not count rows over all
        chunks: they then name a chunk and a row in it (`kernels.rows.row_numbers`).
    """

    data: LevelData
    selection: Selection
    chunking: Chunking
    rows: IntArray | None = None
    boxed: BoolArray | None = None
    counted: IntArray | None = None
    touched: "tuple[LevelView, ...]" = ()
    apart: IntArray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def table(self) -> ChunkTable:
        """The chunks that may hold selected rows."""
        chunks = self.data.vertices.chunks
        return chunks if self.rows is None else chunks.take(self.rows)

    @property
    def source(self) -> Source:
        """What tasks need to reach the level."""
        return self.data.source

    def __len__(self) -> int:
        return len(self.data.vertices.chunks) if self.rows is None else len(self.rows)

    @cached_property
    def inside(self) -> BoolArray:
        """(n,) whether no box cuts the chunk."""
        return np.ones(len(self), np.bool_) if self.boxed is None else self.boxed

    @property
    def stored_counts(self) -> IntArray | None:
        """(n,) rows of each chunk that the metadata promise, before any selection."""
        counts = self.data.vertices.counts
        return counts if counts is None or self.rows is None else counts[self.rows]

    @property
    def row_nbytes(self) -> int:
        """Bytes of a position."""
        spec = self.data.vertices.spec
        return spec.dtype.itemsize * int(np.prod(spec.row_shape or ()))

    @cached_property
    def bounds(self) -> IntArray:
        """(blocks + 1,) block k has the chunks ``bounds[k]:bounds[k + 1]``, for vertices, attributes and edges."""
        rows = self.stored_counts if self.sizes is None else self.sizes  # for a selection, at most as many
        # Cut by the size of the positions, so that attributes have the same blocks.
        estimates = self.vertex_member().nbytes if rows is None else rows * float(self.row_nbytes)
        return cut_blocks(len(self), self.chunking, estimates, block_nbytes())

    @property
    def by_object(self) -> bool:
        """Whether rows are selected by their object."""
        return self.selection.objects is not None or bool(self.touched)

    @cached_property
    def filters(self) -> BoolArray:
        """(n,) whether rows of the chunk have to be chosen."""
        selection = self.selection
        if self.by_object or selection.conditions:
            return np.ones(len(self), np.bool_)
        return ~self.inside if selection.regions else np.zeros(len(self), np.bool_)

    @property
    def sizes(self) -> IntArray | None:
        """(n,) selected rows of each chunk, if they are known."""
        if self.counted is not None:
            return self.counted
        return self.stored_counts if not self.filters.any() else None

    def with_sizes(self, sizes: IntArray) -> "LevelView":
        """Return the same view with known sizes."""
        return replace(self, counted=sizes)

    def with_chunking(self, chunking: Chunking) -> "LevelView":
        """Return the same view with other blocks."""
        return replace(self, chunking=chunking)

    def with_rows_apart(self, counts: IntArray) -> "LevelView":
        """Return the same view with links that name a chunk and a row in it; ``counts``: (n,) rows of each chunk."""
        return replace(self, apart=counts)

    def narrowed(
        self,
        keep: BoolArray,
        *,
        selection: Selection | None = None,
        inside: BoolArray | None = None,
        touched: "tuple[LevelView, ...] | None" = None,
    ) -> "LevelView":
        """View of some of its chunks.

        Parameters
        ----------
        keep
            (n,) chunks that the narrower selection may touch.
        selection, touched
            The narrower ones, if they differ.
        inside
            (n,) chunks that no box cuts, if that differs.
        """
        rows = np.arange(len(self)) if self.rows is None else self.rows
        return replace(
            self,
            selection=self.selection if selection is None else selection,
            rows=rows[keep],
            boxed=(self.inside if inside is None else inside)[keep],
            counted=None,
            touched=self.touched if touched is None else touched,
            apart=None,
        )

    def span(self, start: int, stop: int) -> "LevelView":
        """View of some consecutive chunks."""
        return self.take(np.arange(start, stop))

    def take(self, chunks: IntArray) -> "LevelView":
        """View of some of its chunks by number, ascending."""
        rows = chunks if self.rows is None else self.rows[chunks]
        sizes = None if self.counted is None else self.counted[chunks]
        return replace(self, rows=rows, boxed=self.inside[chunks], counted=sizes, apart=None)

    @cached_property
    def token(self) -> str:
        """The same whenever the same rows of the same store are meant."""
        parts = (self.source.spec, self.source.level, self.data.digest, self.data.vertices.digest)
        choice = None if self.rows is None else (self.selection.token(), tuple(view.token for view in self.touched))
        token = tokenize(*parts, choice, self.rows)
        return token if self.apart is None else tokenize(token, self.apart)

    @cached_property
    def reads(self) -> Reads:
        """The reads that fetch cells of these chunks, shared by selections that touch the same chunks."""
        parts = (self.source.spec, self.source.level, self.data.digest, self.data.vertices.digest, self.rows)
        return shared_reads(f"zv-read-{tokenize(*parts)}", self.source, self.table.coords)

    def member(self, name: str, array: CellArray, *, head: bool = False, role: Role = "") -> Member:
        """Arrange for an array to be read; its cells are then ``(reads.name, name, chunk)``."""
        found = self.reads.members.get(name)
        if found is None:
            found = self.reads.members[name] = self._member(array, head, role)
        return found

    def _member(self, array: CellArray, head: bool, role: Role) -> Member:
        nbytes = 32.0 if head else self.estimated_nbytes(array)
        if array.chunks is self.data.vertices.chunks and array.places is None:
            return Member(spec=array.spec, present=np.ones(len(self), np.bool_), nbytes=nbytes, head=head, role=role)
        at = array.chunks.find(self.table.coords)
        places = None if array.places is None else array.places.take(at)
        return Member(spec=array.spec, present=at >= 0, nbytes=nbytes, head=head, places=places, role=role)

    def estimated_nbytes(self, array: CellArray) -> float:
        """Estimated bytes of a cell of an array, from the level's number of vertices."""
        return self.estimated_rows * array.spec.dtype.itemsize * float(np.prod(array.spec.row_shape or ()))

    @property
    def estimated_rows(self) -> float:
        """Estimated vertices of a chunk of the level."""
        total = self.data.row_count
        return total / max(len(self.data.vertices.chunks), 1) if total else 4096.0

    def vertex_member(self) -> Member:
        """Arrange for the positions to be read."""
        return self.member(VERTICES, self.data.vertices, role="rows")

    @cached_property
    def object_ids(self) -> IntArray:
        """(O,) ids of all object slots of the level; read once."""
        index = self.data.object_index
        return np.empty(0, np.int64) if index is None else read_ids(self.data.source, index)

    @cached_property
    def manifests(self) -> Manifests:
        """Manifests of all object slots; read once."""
        return level_manifests(self.data)

    @property
    def has_manifests(self) -> bool:
        """Whether `manifests` have been read."""
        return MANIFESTS in self.data.__dict__

    def manifests_of(self, rows: IntArray) -> Manifests:
        """Manifests of some object rows, in the given order; only their stored chunks are read."""
        index = self.data.object_index
        assert index is not None
        size = index.stored_rows
        if MANIFESTS in self.data.__dict__ or len(np.unique(rows // size)) == -(-index.count // size):
            return self.manifests.take(rows)
        found = read_manifests(self.data.source, index, rows)
        absent = rows[np.diff(found.offsets) == 0] if index.present is not None else rows[:0]
        for chunk in np.unique(absent // size).tolist():
            stored = np.arange(chunk * size, min((chunk + 1) * size, index.count))
            if not len(read_manifests(self.data.source, index, stored).fragments):
                return self.manifests.take(rows)  # perhaps no object is missing, but these; all manifests show it
        return found


def level_manifests(data: LevelData) -> Manifests:
    """Manifests of a level, read on first use, once."""
    found: Manifests | None = data.__dict__.get(MANIFESTS)
    if found is None:
        index = data.object_index
        assert index is not None
        found = read_manifests(data.source, index)
        present = int(np.count_nonzero(np.diff(found.offsets)))
        if present < (index.present or 0):  # a missing stored chunk of them reads as empty manifests
            raise FormatError(f"{present} manifests, but the object index states {index.present}", where=data.url)
        data.__dict__[MANIFESTS] = found
    return found
