"""What a batch fetches."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from zarr_vectors_lazy.model.arrays import CellSpec, Places
from zarr_vectors_lazy.requests import Steps
from zarr_vectors_lazy.types import ChunkCoords, Raw

Role: TypeAlias = Literal["", "rows", "values"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Cells of one array that a batch fetches.

    Parameters
    ----------
    member
        Name under which the batch hands them out.
    spec
        How they are read.
    rows
        Their numbers in the batch's answer.
    coords
        (n, K) their chunks.
    head
        Whether the head of each cell is enough.
    places
        Of the cells, where some share objects.
    role
        Whether they are the rows of their chunks, or values that have as many rows.
    """

    member: str
    spec: CellSpec
    rows: tuple[int, ...]
    coords: ChunkCoords
    head: bool = False
    places: Places | None = None
    role: Role = ""

    def steps(self) -> Steps[list[Raw]]:
        """Conversation that fetches them."""
        layout = self.spec.layout
        return (layout.fetch_heads if self.head else layout.fetch)(self.coords, self.places)
