"""What tasks run to say of each carried fragment which object it belongs to."""

from collections.abc import Sequence

import numpy as np

from zarr_vectors_lazy.access.tracks import Track, Tracker, find_tracks
from zarr_vectors_lazy.types import IntArray


def split_owners(tracker: Tracker, runs: Sequence[IntArray]) -> list[dict[int, Track]]:
    """Manifest entries by chunk, for each run of chunks; nothing where objects share a fragment."""
    tracks = find_tracks(tracker, None)
    if any(len(np.unique(track.fragments)) < len(track.fragments) for track in tracks):
        return [{} for _ in runs]
    return [{chunk: tracks[chunk] for chunk in run.tolist()} for run in runs]


def fragment_owners(track: Track | None, fragments: int) -> IntArray | None:
    """(fragments,) id of the object of each fragment of a chunk; None where not each has one."""
    if track is None or len(track.fragments) != fragments or int(track.fragments.max(initial=-1)) >= fragments:
        return None
    ids = np.empty(fragments, np.int64)
    ids[track.fragments] = track.owners
    return ids
