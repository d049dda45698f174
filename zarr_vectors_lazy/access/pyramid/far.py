"""Links across more than one level: what the levels between lead to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.pyramid.cells import Outbox, Payload, encode, read_records, record_key
from zarr_vectors_lazy.access.pyramid.step import Step
from zarr_vectors_lazy.access.pyramid.tasks import Begun
from zarr_vectors_lazy.access.read import read_batch, read_links
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.format.keys import format_deltas
from zarr_vectors_lazy.format.writing import CURRENT, encode_rows
from zarr_vectors_lazy.model.links import LinkCoding
from zarr_vectors_lazy.model.objects import ragged_arange
from zarr_vectors_lazy.model.pyramid import ChunkKey, ChunkRecord
from zarr_vectors_lazy.model.writing import ArrayDraft, Grid
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.types import ChunkCoords, IntArray

CODING = LinkCoding(width=2, dtype=np.dtype("<i8"), grouped=True, permuted=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FarStep:
    """Links from a level to one that is made from one that is made from it, and so on.

    Parameters
    ----------
    step
        The last step, which makes the coarsest level.
    level, grid
        The finest level, and the grid of its links.
    scale, last
        (D,) finest chunks, and chunks of the level before the coarsest, of a coarse chunk along each axis.
    """

    step: Step
    level: int
    grid: Grid
    scale: IntArray
    last: IntArray

    @property
    def delta(self) -> int:
        """Levels that the links reach across."""
        return self.step.level - self.level

    @property
    def stage(self) -> str:
        """Under which the journal keeps records."""
        return f"far{self.delta}"


def far_part(
    far: FarStep,
    keys: Sequence[ChunkKey],
    finest: ChunkCoords,
    begun: Begun,
    upper: Sequence[Sequence[ChunkRecord]],
    lower: Sequence[Sequence[ChunkRecord]],
) -> list[ChunkRecord]:
    """Task: write the links of some coarse chunks to a level far below, and back.

    Parameters
    ----------
    keys
        The coarse chunks.
    finest
        (f, K) the chunks of the finest level below them, in lexicographic order.
    upper, lower
        Records of the tasks that wrote the links from the level before the coarsest, and to it.
    """
    step, backend = far.step, connect(far.step.source.spec)
    journal = record_key(step.level, far.stage, keys[0])
    found = read_records(backend, journal) if begun.resumed else {}
    onward = _read(far, step.source.level, 1, step.fine_grid, upper)
    first = _read(far, far.level, far.delta - 1, far.grid, lower)
    coarse, middle = _divided(finest, far.scale), _divided(finest, far.scale // far.last)
    outbox = Outbox(backend, journal, found)
    made = dict(found)
    for key in keys:
        if key in found:
            continue
        mine = (coarse == np.asarray(key)).all(axis=1)
        payloads: list[Payload] = []
        for chunk, through in zip(finest[mine].tolist(), middle[mine].tolist(), strict=True):
            pairs = _composed(first.get(tuple(chunk)), onward.get(tuple(through)))
            payloads += _payloads(far, key, tuple(chunk), pairs)
        encoded = [
            encode(payload, step.grid if payload.level == step.level else far.grid, step.encoding)
            for payload in payloads
        ]
        made[key] = ChunkRecord(key, len(payloads), tuple(record for _, record in encoded))
        outbox.add([put for put, _ in encoded], made[key])
    outbox.flush()
    return [made[key] for key in keys]


def _divided(chunks: ChunkCoords, scale: IntArray) -> ChunkCoords:
    lead = chunks.shape[1] - len(scale)
    return np.concatenate([chunks[:, :lead], chunks[:, lead:] // scale], axis=1)


def _path(delta: int, rank: int) -> str:
    return CURRENT.link_path(delta, ".".join("0" * rank))


def _read(
    far: FarStep, level: int, delta: int, grid: Grid, records: Sequence[Sequence[ChunkRecord]]
) -> dict[ChunkKey, IntArray]:
    """Pairs (row, row of the coarser level) of the cells that were written, by chunk."""
    path, source = _path(delta, far.step.rank), Source(far.step.source.spec, level)
    keys = sorted({c.chunk for group in records for r in group for c in r.cells if c.level == level and c.path == path})
    draft = ArrayDraft(path=path, attributes={"dtype": "int64", "row_shape": []})
    spec = CURRENT.cell_spec(level, draft, grid, far.step.encoding)
    coords = np.asarray(keys, np.int64).reshape(-1, far.step.rank)
    raws = read_batch(source, [Wanted("", spec, tuple(range(len(keys))), coords)])
    return {key: read_links(source, spec, key, raws["", i], CODING)[:, 1] for i, key in enumerate(keys)}


def _composed(first: IntArray | None, onward: IntArray | None) -> IntArray:
    """Pairs that lead over a row of the level between; (n, 2), by first row."""
    if first is None or onward is None:
        return np.empty((0, 2), np.int64)
    begins = np.searchsorted(onward[:, 0], first[:, 1], side="left")
    counts = np.searchsorted(onward[:, 0], first[:, 1], side="right") - begins
    at = np.repeat(begins, counts) + ragged_arange(counts)
    return np.stack([np.repeat(first[:, 0], counts), onward[at, 1]], axis=1)


def _payloads(far: FarStep, key: ChunkKey, chunk: ChunkKey, pairs: IntArray) -> list[Payload]:
    if not len(pairs):
        return []
    step, head = far.step, np.asarray([[1, 0]], np.int64)
    n, rank = len(pairs), step.rank
    found = [Payload(far.level, _path(far.delta, rank), chunk, n, encode_rows(np.concatenate([head, pairs])))]
    if step.cross == "explicit":
        lead = rank - len(far.scale)
        corner = np.concatenate([np.asarray(key[:lead], np.int64), np.asarray(key[lead:], np.int64) * far.scale])
        (segment,) = format_deltas((np.asarray(chunk) - corner)[None])
        back = encode_rows(np.concatenate([head, pairs[:, ::-1]]))
        found.append(Payload(step.level, CURRENT.link_path(-far.delta, segment), key, n, back))
    return found
