import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import modest
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.format.v09.generation import parse_offsets
from zarr_vectors_lazy.format.v09.writing import place_links
from zarr_vectors_lazy.format.vectors import decode_links
from zarr_vectors_lazy.model.arrays import LinkCoding
from zarr_vectors_lazy.model.writing import LevelDraft, LinkFamilyDraft

COORDS = np.array([(-1, 0), (-1, 10), (0, -2), (0, 0), (3, 1)])


def unplaced(placed, coords, draft, other=None, anchors=None):
    """Records as a reader finds them, (M, L) of (chunk, row), in the order in which they were given."""
    family, out = draft.families[0], {}
    for cell, segment in enumerate(placed.segments):
        node = CURRENT._link_draft(CURRENT.link_path(family.delta, segment), draft)
        offsets = parse_offsets(segment, family.width, 2, "")
        assert node.attributes["offsets"] == offsets.tolist()
        within = CURRENT.is_within(family.delta, segment)
        assert bool(placed.headed[cell]) is not within
        coding = LinkCoding(
            width=family.width,
            dtype=np.dtype("<i8"),
            grouped=not within,
            permuted=node.attributes["has_perm"],
        )
        records = decode_links(placed.payload(cell), coding)
        source = coords[placed.sources[cell]]
        base = source if anchors is None else anchors[placed.sources[cell]]
        at = np.concatenate([source[None], base + offsets])
        for given_, (slots, rows) in zip(placed.members(cell).tolist(), records, strict=True):
            out[given_] = [(*at[slot].tolist(), row) for slot, row in zip(slots, rows.tolist(), strict=True)]
        if family.delta == 0 and not family.directed:
            first = np.array([next((int(p) for p in offset if p), 0) for offset in offsets])
            assert (first >= 0).all()
            assert offsets.tolist() == sorted(offsets.tolist())
    assert sorted(out) == list(range(len(placed.order)))
    return [out[i] for i in range(len(out))]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@modest
@given(data=st.data())
def test_links_of_a_level(width, directed, data):
    end = st.tuples(st.integers(0, len(COORDS) - 1), st.integers(0, 5))
    records = np.array(data.draw(st.lists(st.tuples(*[end] * width), max_size=30)), np.int64).reshape(-1, width, 2)
    placed = place_links(records[..., 0], records[..., 1], COORDS, directed=directed)
    family = LinkFamilyDraft(delta=0, width=width, directed=directed, count=len(records))
    draft = LevelDraft(level=0, rank=2, arrays=(), families=(family,))
    expected = [[(*COORDS[c].tolist(), row) for c, row in record] for record in records.tolist()]
    if width > 1:
        assert unplaced(placed, COORDS, draft) == expected
    else:
        assert set(placed.segments) <= {"self"}
    assert placed.sources.tolist() == sorted(placed.sources.tolist())
    for cell in range(len(placed.segments)):
        assert placed.members(cell).tolist() == sorted(placed.members(cell).tolist())


def test_the_example_of_the_format():
    coords = np.array([(0, 0), (1, 0)])
    placed = place_links(np.array([[1, 0]]), np.array([[4, 7]]), coords)
    assert list(placed.segments) == ["+1.0"]
    assert placed.sources.tolist() == [0]
    assert np.frombuffer(placed.payload(0), "<i8").tolist() == [1, 0, 1, 7, 4]


def test_links_between_levels():
    fine = np.array([(-1, 0), (0, 0), (0, 3), (2, 2)])
    coarse = np.array([(-1, 0), (0, 0), (0, 1), (1, 1)])
    anchors = np.floor_divide(fine, 2)
    chunks = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [3, 2]])
    rows = np.arange(10).reshape(5, 2)
    placed = place_links(chunks, rows, fine, delta=1, other=coarse, anchors=anchors, directed=True)
    draft = LevelDraft(
        level=0, rank=2, arrays=(), families=(LinkFamilyDraft(delta=1, width=2, directed=True, count=5),)
    )
    assert set(placed.segments) == {"0.0", "-1.0"}
    assert placed.headed.all()
    assert not placed.permuted.any()
    found = unplaced(placed, fine, draft, anchors=anchors)
    assert found == [
        [(*fine[a].tolist(), r), (*coarse[b].tolist(), s)]
        for (a, b), (r, s) in zip(chunks.tolist(), rows.tolist(), strict=True)
    ]


def test_no_links():
    placed = place_links(np.empty((0, 2), np.int64), np.empty((0, 2), np.int64), COORDS)
    assert list(placed.segments) == []
    assert placed.bounds.tolist() == [0]


def test_documents_of_a_family():
    family = LinkFamilyDraft(delta=-1, width=2, directed=True, count=3, values={"w": (np.dtype("f4"), (2,))})
    groups = CURRENT._family_groups(family, 3)
    assert groups["links/-1"]["link_width"] == 2
    assert groups["links/-1"]["sid_ndim"] == 3
    assert json.loads(json.dumps(groups))["link_attributes/w/-1"]["num_links"] == 3
