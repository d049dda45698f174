"""Cells in AnnData's HDF5 files: positions in ``obsm``, attributes in ``obs``, genes on request."""

from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, NotFoundError, listed
from zarr_vectors_lazy.files.loaded import Loaded, LoadOptions, library, with_missing
from zarr_vectors_lazy.files.meshes import flat_columns
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.files.tables import OBJECT

PLACES = ("spatial", "X_spatial", "spatial3d", "X_umap", "X_tsne")
"""Members of ``obsm`` that are positions, the first that is there."""
NAMES = "obs_names"
Values = np.ndarray[Any, Any]


def load_h5ad(path: Path, asked: LoadOptions) -> Loaded:
    """Read cells: columns of ``obs``, vectors of ``obsm`` of up to three numbers, and genes of ``X`` in ``columns``.

    ``axes`` names columns of ``obs`` that are positions; else they are in ``obsm``.
    """
    with library("h5py").File(path, "r") as file:
        if "obs" not in file:
            raise FileError(f"it has no 'obs', only {listed(file)}: it is not an AnnData file")
        obs = file["obs"]
        order = [str(name) for name in obs.attrs["column-order"]]
        place = None if asked.axes else next((name for name in PLACES if name in file.get("obsm", {})), None)
        if place is None and not set(asked.axes or ("",)) <= set(order):
            raise FileError(f"expected positions in obsm {listed(PLACES)}, found {listed(file.get('obsm', ()))}")
        if place is None:
            positions = np.column_stack([np.asarray(_column(obs[name]), np.float64) for name in asked.axes or ()])
        else:
            positions = np.asarray(file["obsm"][place])
        owner = asked.object_ids or (OBJECT if OBJECT in order else None)
        attributes, left = _attributes(file, order, {owner, *(asked.axes or ())}, place, asked)
        return Loaded(
            kind="points",
            positions=positions,
            attributes=attributes,
            object_ids=None if owner is None else np.asarray(_column(obs[owner])),
            left_out=tuple(left),
        )


def _attributes(
    file: Any, order: list[str], used: set[Any], place: str | None, asked: LoadOptions
) -> tuple[dict[str, Any], list[str]]:
    """Columns that are not used, and vectors but that of the positions; what is left out."""
    obs, vectors = file["obs"], file.get("obsm", {})
    columns = [name for name in order if name not in used]
    shown = [name for name, values in vectors.items() if name != place and len(getattr(values, "shape", ())) == 2]
    small = [name for name in shown if vectors[name].shape[1] <= 3]
    genes = _names(file["var"]) if "var" in file else []
    found: dict[str, Any] = {}
    for name in [*columns, *small] if asked.columns is None else asked.columns:
        if name in columns:
            found[name] = _column(obs[name])
        elif name in shown:
            found[name] = np.asarray(vectors[name])
        elif name in genes:
            found[name] = _gene(file["X"], genes.index(name), len(_names(obs)))
        elif name == NAMES:
            found[name] = np.array(_names(obs), object)
        else:
            raise NotFoundError.among("column", name, [*columns, *shown, NAMES, *genes])
    left = [f"obsm {name}" for name in vectors if name != place and name not in found]
    if asked.columns is None:
        left += [NAMES, *(name for name in ("X", "layers", "obsp", "uns") if name in file and len(file[name]))]
    return found, left


def _names(table: Any) -> list[str]:
    """Names of the rows of a table."""
    return [str(name) for name in _column(table[table.attrs["_index"]])]


def _column(node: Any) -> Any:
    """Values of a column as `Loaded` has them (AnnData's on-disk format)."""
    kind = node.attrs.get("encoding-type", "")
    if kind == "categorical":
        codes, known = np.asarray(node["codes"], np.int64), np.asarray(_column(node["categories"]))
        missing = codes < 0
        values = known[np.where(missing, 0, codes)] if len(known) else np.full(len(codes), None)
        return with_missing(values, missing)
    if kind.startswith("nullable"):
        return with_missing(_column(node["values"]), np.asarray(node["mask"], np.bool_))
    if node.dtype.kind in "OS":
        return np.array([text.decode() if isinstance(text, bytes) else text for text in node[()]], object)
    return np.asarray(node)


def _gene(matrix: Any, column: int, rows: int) -> Values:
    """(N,) values of a column of ``X``, dense or sparse."""
    kind = matrix.attrs.get("encoding-type", "")
    if kind not in ("csr_matrix", "csc_matrix"):
        return np.asarray(matrix[:, column])
    starts, found = np.asarray(matrix["indptr"]), np.zeros(rows, matrix["data"].dtype)
    if kind == "csc_matrix":
        part = slice(int(starts[column]), int(starts[column + 1]))
        found[np.asarray(matrix["indices"][part])] = matrix["data"][part]
    else:
        at = np.flatnonzero(np.asarray(matrix["indices"]) == column)
        found[np.searchsorted(starts, at, side="right") - 1] = np.asarray(matrix["data"])[at]
    return found


def save_h5ad(out: Outgoing, path: Path) -> int:
    """Write cells without genes: ``obs``, and positions as ``obsm/spatial``."""
    values: dict[str, Any] = flat_columns(out.exact, (OBJECT,) if out.has_objects else ())
    if out.has_objects:
        values[OBJECT] = out.vertex_object_ids
    count = len(out.flat)
    with library("h5py").File(path, "w") as file:
        _encode(file, "anndata", "0.1.0")
        obs = _frame(file, "obs", [str(row) for row in range(count)])
        kept = [name for name, array in values.items() if _put(out, obs, name, array)]
        obs.attrs["column-order"] = np.array(kept, object) if kept else np.empty(0)
        _frame(file, "var", [])
        _encode(file.create_group("obsm"), "dict", "0.1.0")
        _encode(file["obsm"].create_dataset("spatial", data=out.flat), "array", "0.2.0")
    return count


def _encode(node: Any, kind: str, version: str) -> Any:
    node.attrs["encoding-type"], node.attrs["encoding-version"] = kind, version
    return node


def _frame(file: Any, name: str, index: list[str]) -> Any:
    table = _encode(file.create_group(name), "dataframe", "0.2.0")
    table.attrs["_index"], table.attrs["column-order"] = "_index", np.empty(0)
    _text(table, "_index", index)
    return table


def _text(group: Any, name: str, values: Any) -> None:
    data = np.array(list(values), object)
    made = group.create_dataset(name, data=data, dtype=library("h5py").string_dtype())
    _encode(made, "string-array", "0.2.0")


def _put(out: Outgoing, table: Any, name: str, values: Any) -> bool:
    """Add a column; False, and said to be left out, where the format has no place for it."""
    if values.dtype.kind in "mM" or "/" in name or name == "_index":
        out.leave(f"attribute {name}")
        return False
    if isinstance(values, np.ma.MaskedArray):
        word = "boolean" if values.dtype.kind == "b" else "integer"
        group = _encode(table.create_group(name), f"nullable-{word}", "0.1.0")
        for part, data in (("values", values.data), ("mask", np.ma.getmaskarray(values))):
            _encode(group.create_dataset(part, data=data), "array", "0.2.0")
    elif values.dtype.kind in "UO":
        missing = np.asarray(values == None, np.bool_)  # noqa: E711  elementwise
        known, codes = np.unique(np.where(missing, "", values).astype(np.str_), return_inverse=True)
        group = _encode(table.create_group(name), "categorical", "0.2.0")
        group.attrs["ordered"] = False
        data = np.where(missing, -1, codes.reshape(-1)).astype(np.int32)
        _encode(group.create_dataset("codes", data=data), "array", "0.2.0")
        _text(group, "categories", known.tolist())
    else:
        _encode(table.create_dataset(name, data=values), "array", "0.2.0")
    return True
