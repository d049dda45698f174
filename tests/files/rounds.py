"""Contents of files, compared value by value, in any order."""

from pathlib import Path

import numpy as np

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.files.formats import load
from zarr_vectors_lazy.files.loaded import LoadOptions, concatenated


def loaded(path, **asked):
    """All of a file."""
    return concatenated(list(load(Path(path), None, LoadOptions(**asked))))


def in_order(table):
    return table[np.lexsort(table.T[::-1])] if table.size else table


def columns(parts):
    return np.column_stack([np.asarray(part, np.float64).reshape(len(part), -1) for part in parts])


def vertex_rows(found, *, owners=False):
    """(N, C) positions and attributes, sorted; text by its code."""
    values = [found.attributes[name] for name in sorted(found.attributes)]
    values = [
        np.unique(value.astype(str), return_inverse=True)[1] if value.dtype == object else value for value in values
    ]
    return in_order(columns([found.positions, *values, *([found.object_ids] if owners else [])]))


def link_rows(found):
    """(L, W * D + C) positions of the ends of links, and their values, sorted; faces begin at their least corner."""
    links = found.links
    if links is None:
        return None
    if found.faces is not None:
        corners = columns([found.positions])
        rank = np.empty(len(corners), np.int64)
        rank[np.lexsort(corners.T[::-1])] = np.arange(len(corners))
        width = links.shape[1]
        first = np.argmin(rank[links], axis=1)
        links = links[np.arange(len(links))[:, None], (first[:, None] + np.arange(width)) % width]
    ends = found.positions[links].reshape(len(links), -1)
    return in_order(columns([ends, *(found.link_attributes[name] for name in sorted(found.link_attributes))]))


def back(source, target, tmp_path, **given):
    """Write a file as a store, and that as a file; both as they are read, and what to_file says."""
    store = tmp_path / "there.zarrvectors"
    written = {name: given.pop(name) for name in ("triangulate",) if name in given}
    zvl.ingest(source, store, overwrite=True, **given, **written)
    done = zvl.open_zv(store)[0].to_file(target, overwrite=True)
    return loaded(source, **written), loaded(target), done


def assert_same(one, other):
    """What two files hold is the same, value by value."""
    assert one.kind == other.kind
    assert sorted(one.attributes) == sorted(other.attributes)
    assert sorted(one.link_attributes) == sorted(other.link_attributes)
    np.testing.assert_array_equal(vertex_rows(one), vertex_rows(other))
    if one.links is not None:
        np.testing.assert_array_equal(link_rows(one), link_rows(other))
    for name, values in one.attributes.items():
        assert other.attributes[name].dtype == values.dtype, name
    for name, values in one.link_attributes.items():
        assert other.link_attributes[name].dtype == values.dtype, name
