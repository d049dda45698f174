"""NumPy archives: all that a level has, an array each.

``vertices``; ``edges``, ``faces``, or ``offsets`` of paths, whose vertices are in path order; ``object_ids`` of
vertices, or of paths. Named ones are ``attribute:NAME``, ``link_attribute:NAME``, ``object_attribute:NAME`` (in the
order of the ids), ``group:NAME``, ``group_attribute:NAME``; ``missing:attribute:NAME`` says where values are missing.
``kind``, ``axes``, ``units`` and ``crs`` (JSON) tell of the store. All but ``vertices`` may be left out; other arrays
of a row for each vertex are attributes too.
"""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np

from zarr_vectors_lazy.errors import FileError, NotFoundError
from zarr_vectors_lazy.files.loaded import Asked, Kind, Loaded
from zarr_vectors_lazy.files.outgoing import Outgoing

Values = np.ndarray[Any, Any]
NAMED = ("attribute", "link_attribute", "object_attribute", "group", "group_attribute", "missing")
PLAIN = ("vertices", "edges", "faces", "offsets", "object_ids", "kind", "axes", "units", "crs")
PATHS = ("line", "polyline", "streamline")
KINDS = {"point_cloud": "points", "streamline": "streamlines", "polyline": "polylines", "line": "polylines"}


def load_npz(path: Path, asked: Asked) -> Loaded:
    """Read what `save_npz` writes, or an archive of some of its arrays."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # NumPy leaves a damaged one open
        found: dict[str, Values] = {name: arrays[name] for name in arrays.files}
    if "vertices" not in found:
        raise FileError(f"an array 'vertices' is wanted, found {sorted(found)}")
    tables: dict[str, dict[str, Any]] = {part: {} for part in NAMED}
    left = []
    rows = len(np.atleast_1d(found["vertices"]))
    for key, values in found.items():
        part, colon, name = key.partition(":")
        if colon and part in NAMED:
            tables[part][name] = values
        elif key in PLAIN:
            continue
        elif values.ndim in (1, 2) and len(values) == rows and f"attribute:{key}" not in found:
            tables["attribute"][key] = values
        else:
            left.append(f"array {key}")
    for key, missing in tables.pop("missing").items():
        part, _, name = key.partition(":")
        if part not in tables or name not in tables[part]:
            raise FileError(f"'missing:{key}' says what is missing of an array that is not there")
        tables[part][name] = _with_missing(tables[part][name], missing)
    attributes = tables["attribute"]
    for name in asked.columns or ():
        if name not in attributes:
            raise NotFoundError.among("attribute", name, attributes)
    return Loaded(
        kind=_kind(found),
        positions=_checked(found["vertices"]),
        axes=tuple(found["axes"].tolist()) if "axes" in found else None,
        unit=tuple(text or None for text in found["units"].tolist()) if "units" in found else None,
        crs=json.loads(str(found["crs"])) if "crs" in found else None,
        attributes={name: v for name, v in attributes.items() if asked.columns is None or name in asked.columns},
        edges=found.get("edges") if "faces" not in found and "offsets" not in found else None,
        faces=found.get("faces"),
        offsets=found.get("offsets"),
        link_attributes=tables["link_attribute"],
        object_ids=found.get("object_ids"),
        object_attributes=tables["object_attribute"],
        groups=tables["group"],
        group_attributes=tables["group_attribute"],
        left_out=tuple(left),
    )


def _kind(found: dict[str, Values]) -> Kind:
    stated = str(found.get("kind", ""))
    if stated in get_args(Kind):
        return stated  # type: ignore[return-value]
    if "offsets" in found:
        return "polylines"
    return "mesh" if "faces" in found else "graph" if "edges" in found else "points"


def _checked(vertices: Values) -> Values:
    if vertices.ndim != 2 or vertices.dtype.kind not in "iuf":
        raise FileError(f"'vertices' must be (N, D) numbers, found shape {vertices.shape} of {vertices.dtype}")
    return vertices


def _with_missing(values: Values, missing: Values) -> Any:
    if values.dtype.kind not in "UT":
        return np.ma.MaskedArray(values, missing)
    text = values.astype(object)
    text[missing] = None
    return text


def save_npz(out: Outgoing, path: Path) -> int:
    """Write a compressed archive; paths that a selection cuts as vertices and edges."""
    selection = out.level._view.selection
    cut = selection.box is not None or bool(selection.conditions)
    as_paths = out.geometry in PATHS and not cut
    kind = "graph" if out.geometry in PATHS and cut else KINDS.get(out.geometry, out.geometry)
    arrays: dict[str, Any] = {"kind": kind}
    if as_paths:
        paths = out.paths
        arrays |= {"vertices": out.flat[paths.rows], "offsets": paths.offsets, "object_ids": paths.ids}
        rows = {name: values[paths.rows] for name, values in out.exact.items()}
    else:
        arrays |= {"vertices": out.flat, "object_ids": out.vertex_object_ids}
        arrays |= {"edges": out.edges, "faces": out.faces}
        rows = dict(out.exact)
    arrays |= {f"attribute:{name}": values for name, values in rows.items()}
    if not as_paths:
        arrays |= {f"link_attribute:{name}": values for name, values in out.link_attributes.items()}
    if out.has_objects:
        arrays |= {f"object_attribute:{name}": values for name, values in out.object_attributes.items()}
        arrays |= {f"group:{name}": values for name, values in out.groups.items()}
        arrays |= {f"group_attribute:{name}": values for name, values in out.group_attributes.items()}
    units = np.array([unit or "" for unit in out.units])
    crs = json.dumps(out.crs) if out.crs else None
    arrays |= {"axes": np.array(out.axes), "units": units if any(out.units) else None, "crs": crs}
    with path.open("wb") as file:
        np.savez_compressed(file, **_plain(arrays))
    return len(arrays["vertices"])


def _plain(arrays: dict[str, Any]) -> dict[str, Any]:
    """Arrays that need no pickle, with those that say what is missing."""
    found: dict[str, Any] = {}
    for key, values in arrays.items():
        if isinstance(values, np.ma.MaskedArray):
            found |= {key: np.asarray(values.data), f"missing:{key}": np.ma.getmaskarray(values)}
        elif isinstance(values, np.ndarray) and values.dtype == object:
            missing = np.asarray(values == None, np.bool_)  # noqa: E711  elementwise
            found |= {key: np.where(missing, "", values).astype(np.str_), f"missing:{key}": missing}
        elif values is not None:
            found[key] = values
    return found
