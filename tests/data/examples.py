"""Write the stores that the package ships (`zvl.example`) anew, from the golden stores beside this file.

Run it in a checkout as ``python -m tests.data.examples``; ``zarr_vectors_lazy/examples/README.md`` says what they are.
"""

import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import dask
import numpy as np
from numcodecs import Zstd

import zarr_vectors_lazy as zvl

GOLDEN = Path(__file__).parent / "0.9-by-zarr-vectors-0.9.2"
SHIPPED = Path(zvl.__file__).parent / "examples"


def write_tracts(level, path, **shapes):
    vertices, offsets, *values = dask.compute(
        *level.objects.ragged(), *level.objects.ragged(attributes=["arc_length", "index"]).attributes.values()
    )
    cut = [np.split(rows, offsets[1:-1]) for rows in (vertices, *values)]
    attributes = dict(zip(("arc_length", "index"), cut[1:], strict=True))
    zvl.write_polylines(path, cut[0], vertex_attributes=attributes, units="mm", **owned(level), **shapes)
    zvl.build_pyramid(path, factors=[(2, 1), (2, 2)])


def write_neuron(level, path, **shapes):
    parts = {number: level.skeletons[number] for number in level.objects.ids.tolist()}
    computed = dask.compute(
        {number: (part.vertices, part.edges, dict(part.attributes)) for number, part in parts.items()}
    )
    vertices, edges, attributes = zip(*computed[0].values(), strict=True)
    counts = [len(rows) for rows in vertices]
    starts = np.cumsum([0, *counts[:-1]])
    zvl.write_graph(
        path,
        np.concatenate(vertices),
        np.concatenate([rows + start for rows, start in zip(edges, starts, strict=True)]),
        kind="skeleton",
        object_ids=np.repeat(list(parts), counts),
        vertex_attributes={name: np.concatenate([each[name] for each in attributes]) for name in attributes[0]},
        **owned(level),
        **shapes,
    )
    zvl.build_pyramid(path, factors=[2, 2], cross_level_storage="implicit")


def write_cloud(level, path, **shapes):
    rows = level.to_xarray().compute()
    attributes = {name: rows[name].values for name in level.attribute_names}
    owners = rows["vertex_object_id"].values
    positions = level.vertices.compute()
    zvl.write_points(path, positions, object_ids=owners, vertex_attributes=attributes, **owned(level), **shapes)
    zvl.build_pyramid(path, factors=[2, 2], cross_level_storage="implicit")


def write_surface(level, path, *, bin_shape, **shapes):
    """Write the icosphere that fsaverage5 was made of by halving each edge."""
    vertices, faces, sulc, curv = dask.compute(
        level.vertices, level.faces, *map(level.attributes.get, ("sulc", "curv"))
    )
    near = [set() for _ in vertices]
    for a, b, c in faces.tolist():
        for one, others in ((a, (b, c)), (b, (a, c)), (c, (a, b))):
            near[one].update(others)
    first = next(row for row, ring in enumerate(near) if len(ring) == 5)  # a corner of the icosahedron
    ends, found = {}, [first]  # of the edges that were halved, by the row in their middle
    seen = {first}
    for old in found:
        for middle in near[old]:
            beside = near[middle] & near[old]
            (other,) = near[middle] - {old} - beside - set().union(*(near[row] for row in beside))
            ends[middle] = {old, other}
            found += {other} - seen
            seen.add(other)
    inner = [face for face in faces.tolist() if not seen & set(face)]
    old = [[(ends[a] & ends[b]).pop() for a, b in zip(face, (face[-1], *face[:-1]), strict=True)] for face in inner]
    kept, rows = np.unique(old, return_inverse=True)
    attributes = {"sulc": sulc[kept], "curv": curv[kept]}
    zvl.write_mesh(
        path,
        vertices[kept],
        rows.reshape(-1, 3),
        vertex_attributes=attributes,
        units="mm",
        bin_shape=bin_shape / 10,
        **shapes,
    )
    zvl.build_pyramid(path, factors=[4], cross_level_storage="implicit")


def owned(level):
    groups = level.objects.groups
    attributes = {str(name): values.values for name, values in level.objects.attributes.data_vars.items()}
    return {"object_attributes": attributes, "groups": {name: groups[name] for name in groups.names or groups}}


def pack(folder):
    """Bytes of a store: a tar file without dates and owners, compressed as one."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as files:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            entry.size = path.stat().st_size
            with path.open("rb") as source:
                files.addfile(entry, source)
    return Zstd(level=22).encode(packed.getvalue())


if __name__ == "__main__":
    for name, write in (
        ("tracts", write_tracts),
        ("neuron", write_neuron),
        ("surface", write_surface),
        ("cloud", write_cloud),
    ):
        with tempfile.TemporaryDirectory() as folder:
            old, new = Path(folder, "old"), Path(folder, f"{name}.zarrvectors")
            with zipfile.ZipFile(GOLDEN / f"{name}-0.9.zarrvectors.zip") as packed:
                packed.extractall(old)
            level = zvl.open_zv(old)[0]
            write(level, new, chunk_shape=level.chunk_shape, bin_shape=level.bin_shape, compressor=None)
            (SHIPPED / f"{name}.tar.zst").write_bytes(pack(new))
