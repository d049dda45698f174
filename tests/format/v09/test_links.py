import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import lehmer, link_blob, modest, outcome, thorough
from tests.format.v09.nodes import GENERATION, array_doc, ask, changed, found, group_doc, level_doc, root_doc
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import format_delta
from zarr_vectors_lazy.format.metadata import parse_level, parse_root
from zarr_vectors_lazy.format.v09.generation import parse_offsets
from zarr_vectors_lazy.format.vectors import decode_links
from zarr_vectors_lazy.model.arrays import LinkFamily


def store_of(**block):
    return parse_root(found(root_doc(**block), ""), None)


def level_of(**block):
    return parse_level(found(level_doc(**block), "0"), store_of(), 0)


def read_family(docs, delta=0, *, level=None, **block):
    return ask(GENERATION.links(level or level_of(), store_of(**block), delta), docs)


def family_docs(segments, *, delta="0", **policy):
    """Nodes of a family; segments by name, each a document."""
    group = group_doc({"zv_array": "links_family", "link_width": 2, "sid_ndim": 2} | policy)
    return {f"0/links/{delta}": group} | {f"0/links/{delta}/{name}": doc for name, doc in segments.items()}


def links_doc(keys=("0.0",), shape=(12, 12), **attributes):
    return array_doc(shape, keys, dtype="int64", **attributes)


@pytest.mark.parametrize(("delta", "text"), [(0, "0"), (1, "+1"), (-1, "-1"), (12, "+12")])
def test_deltas_as_folders(delta, text):
    assert format_delta(delta) == text
    names = ["0", "+1", "-1", "+12", "1", "-0", "+0", "01", "+01", "x", ""]
    docs = {f"0/links/{name}": group_doc({}) for name in names}
    assert delta in ask(GENERATION.deltas(level_of()), docs)


def test_deltas_ascend():
    docs = {f"0/links/{name}": group_doc({}) for name in ["0", "+1", "-1", "+12", "1", "-0", "+0", "01", "x"]}
    assert ask(GENERATION.deltas(level_of()), docs) == (-1, 0, 1, 12)
    assert ask(GENERATION.deltas(level_of()), {}) == ()


@pytest.mark.parametrize(
    ("name", "width", "rank", "offsets"),
    [
        ("0.0.+1", 2, 3, [[0, 0, 1]]),
        ("0.0.+1_0.+1.0", 3, 3, [[0, 0, 1], [0, 1, 0]]),
        ("0.0.0_0.0.0", 3, 3, [[0, 0, 0], [0, 0, 0]]),
        ("-1.+12", 2, 2, [[-1, 12]]),
        ("+1.0.0.0", 2, 4, [[1, 0, 0, 0]]),
        ("self", 1, 3, []),
    ],
)
def test_offsets_of_names(name, width, rank, offsets):
    parsed = parse_offsets(name, width, rank, "here")
    assert parsed.shape == (width - 1, rank)
    assert parsed.tolist() == offsets


@modest
@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_offsets_round_trip(width, rank, data):
    offset = st.lists(st.integers(-99, 99), min_size=rank, max_size=rank)
    offsets = data.draw(st.lists(offset, min_size=width - 1, max_size=width - 1))
    name = "_".join(".".join(map(format_delta, offset)) for offset in offsets) or "self"
    assert parse_offsets(name, width, rank, "here").tolist() == offsets


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *[("self", 2), ("0.0", 1), ("0.0", 3), ("0.0_0.0", 2), ("0", 2), ("0.0.0", 2), ("a.b", 2), ("0.", 2), ("", 2)],
        *[("0.0_", 3), (".", 2), ("0.1e3", 2), ("0.+" + "9" * 30, 2), ("0.+" + "9" * 5000, 2)],
    ],
)
def test_names_that_state_no_offsets(name, width):
    with pytest.raises(FormatError) as caught:
        parse_offsets(name, width, 2, "0/links/0")
    assert caught.value.where == "0/links/0"


def test_what_a_family_says():
    segments = {"0.0": links_doc(("0.0", "1.1")), "0.+1": links_doc(), "+1.-1": links_doc(("3.1",), has_perm=True)}
    family = read_family(family_docs(segments, directed=False))
    assert (family.delta, family.width, family.directed) == (0, 2, False)
    assert [segment.name for segment in family.segments] == ["+1.-1", "0.+1", "0.0"]  # as strings
    assert [segment.offsets.tolist() for segment in family.segments] == [[[1, -1]], [[0, 1]], [[0, 0]]]
    assert [segment.coding.grouped for segment in family.segments] == [True, True, False]
    assert [segment.coding.permuted for segment in family.segments] == [True, True, False]
    assert {segment.coding.dtype for segment in family.segments} == {np.dtype("<i8")}


def test_cells_are_listed_in_the_order_of_strings():
    keys = ["-1.0", "0.0", "10.0", "2.0", "2.10", "2.9"]
    doc = links_doc(keys, (20, 20), chunk_grid_origin=[-5, 0])
    (segment,) = read_family(family_docs({"0.0": doc})).segments
    listed = segment.array.chunks.coords[segment.listed]
    assert [".".join(map(str, coord)) for coord in listed.tolist()] == keys


@pytest.mark.parametrize(("intra", "delta"), [(True, 0), (False, 0), (False, 1)])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("store", ["canonical", "duplicate"])
@pytest.mark.parametrize("has_perm", [None, False, True])
def test_when_records_have_a_permutation(intra, delta, directed, store, has_perm):
    attributes = {} if has_perm is None else {"has_perm": has_perm}
    name = "0.0" if intra else "0.+1"
    docs = family_docs({name: links_doc(**attributes)}, delta=format_delta(delta), directed=directed, store=store)
    (segment,) = read_family(docs, delta).segments
    rule = not intra and delta == 0 and (store == "duplicate" or not directed)
    assert segment.coding.permuted == (rule if has_perm is None else has_perm)
    assert segment.coding.grouped == (not intra or delta != 0)


def test_offsets_of_zero_to_another_level_are_grouped():
    (segment,) = read_family(family_docs({"0.0": links_doc()}, delta="+1"), 1).segments
    assert (segment.coding.grouped, segment.coding.permuted) == (True, False)


@pytest.mark.parametrize("geometry", ["skeleton", "graph"])
@pytest.mark.parametrize("directed", [False, True])
def test_streaming_skeletons_state_the_parent_first_across_chunks(geometry, directed):
    docs = family_docs({"0.0": links_doc(), "0.+1": links_doc()}, directed=directed)
    across, within = read_family(docs, geometry_types=[geometry]).segments
    assert across.coding.reversed == (directed and geometry == "skeleton")
    assert not within.coding.reversed


@pytest.mark.parametrize("missing", ["link_width", "sid_ndim"])
def test_a_family_without_policy_reads_as_none(missing):
    docs = family_docs({"0.0": links_doc()})
    assert read_family(changed(docs, ("0/links/0", "attributes", missing))) is None
    assert read_family({}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("link_width", value) for value in (0, 65, "2", None)] + [("sid_ndim", value) for value in (0, 4, [2], 2.0)],
)
def test_a_bad_policy_is_named(name, value):
    with pytest.raises(FormatError, match=name) as caught:
        read_family(family_docs({"0.0": links_doc()}, **{name: value}))
    assert caught.value.where == "0/links/0"


def test_chunks_by_attribute_have_one_component_more():
    level = level_of(chunk_attribute_name="k", chunk_attribute_values=["a"])
    docs = family_docs({"0.0.0": links_doc(("0.0.0",), (1, 4, 4))}, sid_ndim=3)
    (segment,) = read_family(docs, level=level).segments
    assert segment.offsets.tolist() == [[0, 0, 0]]
    with pytest.raises(FormatError, match="sid_ndim"):
        read_family(family_docs({"0.0.0.0": links_doc(("0.0.0.0",), (1, 1, 4, 4))}, sid_ndim=4))


@pytest.mark.parametrize(
    "doc",
    [links_doc(("0.0.0",), (4, 4, 4)), links_doc() | {"shape": [3]}, array_doc(dtype="float32"), array_doc(dtype="?")],
)
def test_arrays_that_hold_no_links(doc):
    with pytest.raises(FormatError):
        read_family(family_docs({"0.0": doc}))


def test_folders_among_the_segments_are_passed_over():
    family = read_family(family_docs({"0.0": links_doc(), "notes": group_doc({}), "deep/er": group_doc({})}))
    assert [segment.name for segment in family.segments] == ["0.0"]


def copies(record):
    """Copies of a record ((chunk, row), ...) that a duplicate family stores: (cell, segment's name, stored row)."""
    for chunk in sorted({chunk for chunk, _ in record}):
        lead = min((k for k in range(len(record)) if record[k][0] == chunk), key=lambda k: record[k][1])
        sigma = [lead, *(k for k in range(len(record)) if k != lead)]
        offsets = [np.subtract(record[k][0], chunk).tolist() for k in sigma[1:]]
        name = "_".join(".".join(map(format_delta, offset)) for offset in offsets) or "self"
        yield chunk, name, (lehmer(sigma), *(record[k][1] for k in sigma))


@thorough
@given(st.integers(1, 4), st.booleans(), st.data())
def test_duplicate_families_keep_exactly_one_copy(width, directed, data):
    end = st.tuples(st.tuples(st.integers(4, 6), st.integers(4, 6)), st.integers(0, 3))
    records = data.draw(st.lists(st.tuples(*[end] * width), min_size=1, max_size=5))
    cells = {}
    for record in records:
        for chunk, name, (code, *rows) in copies(record):
            intra = set(name) <= set("0._self")
            cells.setdefault(name, {}).setdefault(chunk, []).append(tuple(rows) if intra else (code, *rows))
    segments = {name: links_doc([".".join(map(str, c)) for c in sorted(of)]) for name, of in cells.items()}
    family = read_family(family_docs(segments, link_width=width, directed=directed, store="duplicate"))
    back = []
    for segment in family.segments:
        for coord in map(tuple, segment.array.chunks.coords.tolist()):
            stored = cells[segment.name][coord]
            flat = np.asarray(stored, "<i8").tobytes()
            raw = link_blob([stored], len(stored[0])) if segment.coding.grouped else flat
            chunks = np.concatenate([[coord], coord + segment.offsets])
            for slots, rows in decode_links(raw, segment.coding).tolist():
                back.append(tuple((tuple(chunks[s].tolist()), row) for s, row in zip(slots, rows, strict=True)))

    # Within one chunk the input order is kept, or that of a copy led by its lowest row; compare as sets of ends.
    def ends(record):
        return record if len({chunk for chunk, _ in record}) > 1 else tuple(sorted(record))

    assert sorted(map(ends, back)) == sorted(map(ends, records))


def test_attributes_of_links():
    docs = family_docs({"0.0": links_doc(), "0.+1": links_doc()})
    docs |= {f"0/link_attributes/{name}": group_doc({}) for name in ("w", "a", "other")}
    docs |= {"0/link_attributes/a/0": group_doc({})}  # that of w has no document of its own, and needs none
    docs |= {"0/link_attributes/other/+1": group_doc({})}
    docs |= {"0/link_attributes/w/0/0.0": array_doc((12, 12), ["0.0"], dtype="uint16", row_shape=[3])}
    level = level_of()
    assert ask(GENERATION.link_attribute_names(level, 0), docs) == ("a", "w")
    assert ask(GENERATION.link_attribute_names(level, 1), docs) == ("other",)
    assert ask(GENERATION.link_attribute_names(level, 0), {}) == ()
    cells = ask(GENERATION.link_attribute(level, read_family(docs), "w"), docs).cells
    assert list(cells) == ["0.0"]
    assert (cells["0.0"].spec.dtype, cells["0.0"].spec.row_shape) == (np.uint16, (3,))


@modest
@given(
    st.dictionaries(
        st.sampled_from(["link_width", "sid_ndim", "directed", "store"]), st.sampled_from([1, 2, "x", None, []])
    ),
    st.sampled_from(["0.0", "0.+1", "self", "x", "0", "-1.-1_0.0"]),
)
def test_any_policy_gives_a_family_or_a_format_error(policy, name):
    family = outcome(read_family, family_docs({name: links_doc()}, **policy))
    assert isinstance(family, LinkFamily | FormatError)


@pytest.mark.parametrize("lost", ["0/links/0", "0/links/0/+1.0"])
def test_listed_links_without_metadata_are_an_error(lost):
    docs = family_docs({"0.0": links_doc(), "+1.0": links_doc()})
    assert len(read_family(docs).segments) == 2
    cell = {f"{lost}/c/zarr.json": {}}  # what a listing finds below it
    with pytest.raises(FormatError, match=r"no zarr\.json"):
        read_family({path: doc for path, doc in docs.items() if path != lost} | cell)
