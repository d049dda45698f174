"""Rows as tables: CSV, Parquet and GeoParquet, NumPy archives, and AnnData's cells."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from zarr_vectors_lazy.errors import FileError, NotFoundError, SelectionError, listed
from zarr_vectors_lazy.files.las import system_of, units_of
from zarr_vectors_lazy.files.loaded import BLOCK_NBYTES, Kind, Loaded, LoadOptions, library, with_missing
from zarr_vectors_lazy.files.meshes import flat_columns
from zarr_vectors_lazy.files.outgoing import Outgoing, Values, at_least_two
from zarr_vectors_lazy.format.vectors import encode_categories
from zarr_vectors_lazy.model.objects import ragged_arange
from zarr_vectors_lazy.plan.selection import OBJECT_ID
from zarr_vectors_lazy.write.arguments import arrow_values
from zarr_vectors_lazy.write.datasets import crs_of

# Rows as tables: CSV and Parquet, with positions in columns or as GeoParquet's geometries.
#
# A column is an attribute; those named x, y, z, w, in lower or upper case, are positions, and ``object_id`` is the
# object of each row. Types are Arrow's: 64-bit integers stay exact, even if some are missing, and missing values stay
# distinct from empty ones.

AXES = ("x", "y", "z", "w")
MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "-nan", "<NA>", "null", "NULL", "None")
"""Words for a missing value in a CSV column of numbers; in a column of text, an empty unquoted field is missing."""
MOST_EXACT = 2**53
BATCH_ROWS = 250_000
HEAD_NBYTES = 1 << 18
DECIMAL = re.compile(r"[+-]?\d*([.,])\d+(?:[eE][+-]?\d+)?")
LINES = 50_000  # bytes of CSV that are in memory as text at a time


class Flavour(NamedTuple):
    """How a CSV file is written."""

    delimiter: str
    encoding: str = "utf8"
    skipped: int = 0
    comma: bool = False
    """Whether numbers have a decimal comma."""


def load_csv(path: Path, asked: LoadOptions) -> Iterator[Loaded]:
    """Read text with a line of names, separated by commas, or else by tabs or semicolons; twice, to find the types."""
    types: dict[str, Any] = {}
    batches = 0
    flavour = _flavour(path)
    for batch in _csv_batches(path, flavour):
        batches += 1
        _narrow_types(types, batch, flavour.comma)
    if not batches:
        raise FileError("it has no vertices")
    chosen = {name: _chosen(kinds) for name, kinds in types.items()}
    for batch in _csv_batches(path, flavour):
        columns = {
            name: _typed(batch.column(at), chosen[name], flavour.comma) for at, name in enumerate(batch.schema.names)
        }
        yield points_of(columns, asked)


def _text(path: Path) -> Any:
    kind = "gzip" if path.name.lower().endswith(".gz") else None
    return library("pyarrow").input_stream(str(path), compression=kind)


def _flavour(path: Path) -> Flavour:
    """What the beginning of a CSV file shows; lines before the names that begin with # are comments."""
    with _text(path) as file:
        head = file.read(HEAD_NBYTES)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    lines = re.split(r"\r\n|\r|\n", head.decode(encoding, "replace"))
    skipped = next((at for at, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    tabs = path.name.lower().removesuffix(".gz").endswith(".tsv")
    bare = re.sub(r'"[^"]*"', "", lines[skipped])
    delimiter = next((one for one in ("\t,;|" if tabs else ",\t;|") if one in bare), ",")
    if skipped and lines[skipped - 1].count(delimiter) == bare.count(delimiter):
        skipped -= 1  # these are the names
    fields = [field.strip().strip('"') for line in lines[skipped + 1 :] for field in line.split(delimiter)]
    decimals = {found[1] for found in map(DECIMAL.fullmatch, fields if delimiter == ";" else ()) if found}
    return Flavour(delimiter, encoding.removesuffix("-sig"), skipped, decimals == {","})


def _csv_batches(path: Path, flavour: Flavour) -> Iterator[Any]:
    """Record batches whose columns are all text, null where a field is empty and not quoted."""
    arrow, csv = library("pyarrow"), library("pyarrow.csv", "pyarrow")
    read = csv.ReadOptions(block_size=BLOCK_NBYTES, skip_rows=flavour.skipped, encoding=flavour.encoding)
    parse = csv.ParseOptions(delimiter=flavour.delimiter, newlines_in_values=True)
    with _text(path) as file:
        head = csv.open_csv(file, read, parse).schema.names
    twice = sorted({name for name in head if head.count(name) > 1})
    if twice:
        raise FileError(f"columns {listed(twice)} occur more than once")
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(head, arrow.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    names = [name.strip() for name in head]
    names[0] = names[0].lstrip("# ") or names[0]
    with _text(path) as file, csv.open_csv(file, read, parse, convert) as batches:
        for batch in batches:
            if batch.num_rows:
                yield batch.rename_columns(names)


def _narrow_types(types: dict[str, list[Any] | None], batch: Any, comma: bool) -> None:
    """Keep, of the types of each column, those that it can have; None until it has values."""
    arrow = library("pyarrow")
    times = map(arrow.timestamp, ("s", "ms", "us", "ns"))
    every = [arrow.int64(), arrow.uint64(), arrow.float64(), arrow.bool_(), *times]
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values = _without_words(column, comma).drop_null()
        known = types.setdefault(name, None)
        if len(values):
            types[name] = [kind for kind in (every if known is None else known) if _casts(values, kind)]


def _casts(values: Any, kind: Any) -> bool:
    arrow, compute = library("pyarrow"), library("pyarrow.compute", "pyarrow")
    if arrow.types.is_integer(kind) and compute.any(compute.match_substring(values, "x", ignore_case=True)).as_py():
        return False  # 0x1f is text here, but Arrow would read 31
    try:
        values.cast(kind)
    except arrow.ArrowInvalid:
        return False
    return True


def _without_words(column: Any, comma: bool) -> Any:
    """Column of text without surrounding spaces, decimal commas as points, null where it is a word for missing."""
    arrow, compute = library("pyarrow"), library("pyarrow.compute", "pyarrow")
    trimmed = compute.utf8_trim_whitespace(column)
    if comma:  # 1.234 is no number then: it may be a thousand
        trimmed = compute.replace_substring(compute.replace_substring(trimmed, ".", ";"), ",", ".")
    return compute.if_else(compute.is_in(trimmed, arrow.array(MISSING)), None, trimmed)


def _chosen(kinds: list[Any] | None) -> Any:
    arrow = library("pyarrow")
    return arrow.float64() if kinds is None else next(iter(kinds), arrow.string())


def _typed(column: Any, kind: Any, comma: bool) -> Any:
    arrow, compute = library("pyarrow"), library("pyarrow.compute", "pyarrow")
    if arrow.types.is_string(kind):
        return column
    values = _without_words(column, comma)
    if arrow.types.is_floating(kind):
        long = compute.filter(values, compute.match_substring_regex(values, r"^[+-]?\d{16,}$"))
        large = [text for text in long.drop_null().to_pylist() if abs(int(text)) > MOST_EXACT]
        if large:
            raise FileError(f"a column holds {large[0]} and other numbers; no single 64-bit type holds them all")
    return values.cast(kind)


def load_parquet(path: Path, asked: LoadOptions) -> Iterator[Loaded]:
    """Read Parquet, in batches of rows; from GeoParquet, the points or lines of its primary column."""
    parquet = library("pyarrow.parquet", "pyarrow")
    with parquet.ParquetFile(path) as file:
        geo = json.loads((file.metadata.metadata or {}).get(b"geo", b"null"))
        rows, vectors = 0, _vectors(file)
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            rows += batch.num_rows
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            columns |= {name: columns[name].cast(kind) for name, kind in vectors.items()}
            yield points_of(columns, asked) if geo is None or asked.axes else _geometries(columns, geo, asked)
        if not rows:
            raise FileError("it has no vertices")


load_geoparquet = load_parquet


def _vectors(file: Any) -> dict[str, Any]:
    """Types of lists with one length, by the names of the columns whose lists all have the same length."""
    arrow, compute = library("pyarrow"), library("pyarrow.compute", "pyarrow")
    schema, found = file.schema_arrow, {}
    for one in schema:
        if not (arrow.types.is_list(one.type) or arrow.types.is_large_list(one.type)):
            continue
        lengths: set[int | None] = set()
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[one.name]):
            lengths |= set(compute.unique(compute.list_value_length(batch.column(0))).to_pylist())
            if len(lengths) > 1:
                break
        length = lengths.pop() if len(lengths) == 1 else None
        if length:
            found[one.name] = arrow.list_(one.type.value_type, length)
    return found


def points_of(columns: Mapping[str, Any], asked: LoadOptions) -> Loaded:
    """Points from Arrow's columns by name."""
    axes = _axes_of(list(columns), asked)
    owner = _owner_of(columns, asked)
    attributes, left = _attributes(columns, {*axes, owner}, asked)
    return Loaded(
        kind="points",
        positions=_positions([(name, columns[name]) for name in axes]),
        axes=tuple(asked.axes) if asked.axes else None,
        attributes=attributes,
        object_ids=None if owner is None else _whole(owner, columns[owner]),
        left_out=left,
    )


def _owner_of(columns: Mapping[str, Any], asked: LoadOptions) -> str | None:
    owner = asked.object_ids or (OBJECT_ID if OBJECT_ID in columns else None)
    if owner is not None and owner not in columns:
        raise NotFoundError.among("column", owner, columns)
    return owner


def _axes_of(names: Sequence[str], asked: LoadOptions) -> list[str]:
    """Columns that are positions: those requested, otherwise x, y, ... in lower or else upper case."""
    lower = {name.lower(): name for name in reversed(names)}
    wanted = asked.axes or [axis for axis in AXES if axis in lower]
    found = [name if name in names else lower.get(name.lower()) for name in wanted]
    if asked.axes and len(found) < 2:
        raise SelectionError(f"axes= must name 2 columns or more, found {listed(asked.axes)}")
    if None in found or len(found) < 2 or (not asked.axes and tuple(wanted) != AXES[: len(wanted)]):
        expected = listed(asked.axes) if asked.axes else "x, y, ..."
        raise FileError(f"expected columns {expected} for positions, found {listed(names)}; axes= names other columns")
    return [name for name in found if name is not None]


def _attributes(
    columns: Mapping[str, Any], taken: Set[str | None], asked: LoadOptions
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Attributes among the columns, except those used for something else; and what is left out."""
    for name in asked.columns or ():
        if name not in columns:
            raise NotFoundError.among("column", name, columns)
    wanted = [name for name in (columns if asked.columns is None else asked.columns) if name not in taken]
    values = {name: loaded_values(columns[name]) for name in wanted}
    kept = {name: array for name, array in values.items() if array is not None}
    left = [f"column {name} of {columns[name].type}" for name in wanted if name not in kept]
    zones = {name: getattr(columns[name].type, "tz", None) for name in kept}
    foreign = {name: zone for name, zone in zones.items() if zone not in {None, "UTC"}}
    left += [f"zone {zone} of column {name} (times are in UTC)" for name, zone in foreign.items()]
    return kept, tuple(left)


def _positions(columns: Sequence[tuple[str, Any]]) -> Values:
    """(N, D) float64, or float32 if all columns are."""
    found = []
    for name, column in columns:
        values = loaded_values(column)
        if values is None or values.dtype.kind not in "iuf":
            example = next((text for text in column.to_pylist() if not _is_number(text)), None)
            raise FileError(f"column {name!r} is of {column.type}, expected numbers: {example!r}")
        if np.ma.is_masked(values) or (values.dtype.kind == "f" and np.isnan(values).any()):
            raise FileError(f"column {name!r} has no value in some rows")
        if values.dtype.kind in "iu" and ((values > MOST_EXACT) | (values < -MOST_EXACT)).any():
            raise FileError(f"column {name!r} has integers beyond 2**53, which positions cannot hold")
        found.append(np.asarray(values))
    single = {array.dtype for array in found} == {np.dtype(np.float32)}
    return np.column_stack([array.astype(np.float32 if single else np.float64, copy=False) for array in found])


def _is_number(text: Any) -> bool:
    return not isinstance(text, str) or re.fullmatch(r"\s*[+-]?[\d.]+([eE][+-]?\d+)?\s*", text) is not None


def _whole(name: str, column: Any) -> Values:
    values = loaded_values(column)
    if values is None or values.dtype.kind not in "iu" or np.ma.is_masked(values):
        raise FileError(
            f"column {name!r} gives the object of each row, so it must hold whole numbers, with none missing"
        )
    return np.asarray(values)


def loaded_values(column: Any) -> Any:
    """Values of an Arrow column as `Loaded` has them: (N,), or (N, C) for lists of one length; otherwise None."""
    arrow = library("pyarrow")
    types, kind = arrow.types, column.type
    if types.is_dictionary(kind):
        return loaded_values(column.dictionary_decode())
    if types.is_fixed_size_list(kind):
        inner = loaded_values(column.flatten())
        return None if column.null_count or inner is None else inner.reshape(len(column), kind.list_size)
    if types.is_time(kind) or types.is_interval(kind):
        return None
    if types.is_null(kind):
        column = column.cast(arrow.float64())  # all missing, as a column of CSV without values
    if types.is_date(kind) or (types.is_timestamp(kind) and kind.tz is not None):
        column = column.cast(arrow.timestamp("s" if types.is_date(kind) else kind.unit))  # the same instants, in UTC
    try:
        values = arrow_values(column, "column")
    except SelectionError:  # no store holds such values
        return None
    return values if np.ma.is_masked(values) else np.asarray(values)


def arrow_column(values: Values) -> Any:
    """Arrow array of values; masked values and None become null."""
    arrow = library("pyarrow")
    if isinstance(values, np.ma.MaskedArray):
        return arrow.array(values.data, mask=np.ma.getmaskarray(values))
    return arrow.array(values.tolist(), arrow.string()) if values.dtype.kind in "UO" else arrow.array(values)


def _geometries(columns: Mapping[str, Any], geo: Mapping[str, Any], asked: LoadOptions) -> Loaded:
    """Points or lines, each line an object, from GeoParquet's primary column (specification 1.1)."""
    primary = geo["primary_column"]
    stated = geo["columns"][primary]
    system = stated.get("crs", "OGC:CRS84")
    system = None if system is None else library("pyproj").CRS.from_user_input(system)
    positions, lengths = _geometry(columns[primary], stated["encoding"])
    units = None if system is None else units_of(system)
    covering = {path[0] for path in stated.get("covering", {}).get(BBOX, {}).values()}  # repeats what is already known
    others = {name: column for name, column in columns.items() if name != primary and name not in covering}
    owner = _owner_of(others, asked)
    attributes, left = _attributes(others, {owner}, asked)
    ids = None if owner is None else _whole(owner, columns[owner])
    about: dict[str, Any] = {"positions": positions, "object_ids": ids, "left_out": left}
    about["unit"] = None if units is None else units[: positions.shape[1]]
    about["crs"] = None if system is None else crs_of(system)
    if lengths is None:
        return Loaded(kind="points", attributes=attributes, **about)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Loaded(kind="polylines", offsets=offsets, object_attributes=attributes, **about)


def _geometry(column: Any, encoding: str) -> tuple[Values, Values | None]:
    """(N, D) positions, and for lines the number of vertices of each."""
    arrow = library("pyarrow")
    if column.null_count:
        raise FileError("some rows have no geometry")
    if encoding == "point":
        parts = {field.name: part for field, part in zip(column.type, column.flatten(), strict=True)}
        return _positions([(axis, parts[axis]) for axis in AXES[:3] if axis in parts]), None
    if encoding != "WKB":
        raise FileError(f"geometries can be read as WKB or as points, but not as {encoding!r}")
    column = column.cast(arrow.large_binary())
    starts = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column)]
    raw = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    kinds = np.unique(_words(raw, starts + 1, "<u4")[:, 0]).tolist()
    if not kinds or (raw[starts] != 1).any() or len(kinds) > 1 or kinds[0] not in WKB:
        raise FileError(f"points or lines of two or three axes are read, little-endian; found WKB types {kinds}")
    lines, axes = WKB[kinds[0]]
    if not lines:
        return np.ascontiguousarray(_words(raw, starts + 5, "<f8", axes)), None
    lengths = _words(raw, starts + 5, "<u4")[:, 0].astype(np.int64)
    return _words(raw, np.repeat(starts + 9, lengths) + ragged_arange(lengths) * 8 * axes, "<f8", axes), lengths


BBOX, GEOMETRY = "bbox", "geometry"
WKB = {1: (False, 2), 1001: (False, 3), 2: (True, 2), 1002: (True, 3)}
"""Whether a geometry type is a line, and its axes, by ISO WKB's number."""


def _words(raw: Values, starts: Values, dtype: str, count: int = 1) -> Values:
    """(n, count) numbers at given places in a buffer."""
    size = np.dtype(dtype).itemsize * count
    return raw[starts[:, None] + np.arange(size)].copy().view(dtype)


def save_csv(out: Outgoing, path: Path) -> int:
    """Write rows as text with a line of names, separated by commas, or by tabs if the suffix says so."""
    arrow = library("pyarrow")
    separator = "\t" if path.name.lower().endswith(".tsv") else ","
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        for number, frame in enumerate(out.frames()):
            table = arrow.Table.from_pandas(frame, preserve_index=False)
            if not number:
                names = arrow.chunked_array([table.schema.names])
                times = [one for one in table.schema if arrow.types.is_duration(one.type)]
                out.leave(*(f"unit of times {one.name} ({one.type.unit})" for one in times))
                file.write(separator.join(_quoted(names, separator).to_pylist()) + "\n")
            for batch in table.to_batches(LINES):
                file.write("\n".join(_lines(batch, separator).to_pylist()) + "\n")
            count += len(table)
    return count


def _lines(table: Any, separator: str) -> Any:
    compute = library("pyarrow.compute", "pyarrow")
    fields = [_quoted(column, separator) for column in table.columns]
    return compute.binary_join_element_wise(*fields, separator, null_handling="replace", null_replacement="")


def _quoted(column: Any, separator: str) -> Any:
    """Fields of a column: numbers that read back unchanged, text in quotes if necessary."""
    arrow, compute = library("pyarrow"), library("pyarrow.compute", "pyarrow")
    kind = column.type
    text = column.cast(kind.value_type).cast(arrow.string()) if arrow.types.is_dictionary(kind) else column
    text = text.cast(arrow.string())
    if arrow.types.is_floating(kind):
        return compute.replace_substring_regex(text, r"^(-?\d+)$", r"\1.0")
    if arrow.types.is_string(kind) or arrow.types.is_large_string(kind) or arrow.types.is_dictionary(kind):
        inside = compute.replace_substring(text, '"', '""')
        needs = compute.match_substring_regex(text, rf'^$|^\s|\s$|["\r\n{separator}]')
        return compute.if_else(needs, compute.binary_join_element_wise('"', inside, '"', ""), text)
    return text


def save_parquet(out: Outgoing, path: Path, geo: "_Geo | None" = None) -> int:
    """Write rows as Parquet, with positions as geometry if requested; the file's bounds are written at the end."""
    arrow, parquet = library("pyarrow"), library("pyarrow.parquet", "pyarrow")
    count, writer = 0, None
    try:
        for frame in out.frames():
            table = arrow.Table.from_pandas(frame, preserve_index=False)
            table = table if geo is None else geo.points(table)
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table.cast(writer.schema))
            count += len(table)
        if writer is not None:
            writer.add_key_value_metadata({} if geo is None else geo.said())
    finally:
        if writer is not None:
            writer.close()
    return count


def save_geoparquet(out: Outgoing, path: Path) -> int:
    """Write GeoParquet 1.1: a row for each point with its attributes, or for each line with those of its object."""
    system = system_of(out.crs)
    if system is None and out.crs:
        out.leave("crs")
    if out.geometry == "point_cloud":
        out.leave(*(f"object attribute {name}" for name in out.object_attributes))
        names = list(out.level._view.data.store.world.names[:3] if out.world else out.level.store.axes[:3])
        geo = _Geo("Point", names, system, [*names, *(column.name for column in out._columns)])
        return save_parquet(out, path, geo)
    arrow, parquet = library("pyarrow"), library("pyarrow.parquet", "pyarrow")
    ids, offsets, rows = out.path_rows
    tables = out.of_paths(out.exact_objects)
    flat = {name: arrow_column(values) for name, values in tables.items() if values.ndim == 1}
    out.leave(*(f"attribute {name}" for name in out.attribute_names))
    out.leave(*(f"object attribute {name}" for name in tables if name not in flat))
    geo = _Geo("LineString", list("xyz"), system, list(flat))
    at, counts = at_least_two(offsets)
    table = geo.framed(arrow.table({OBJECT_ID: ids, **flat}), out.positions[rows[at]], counts)
    parquet.write_table(table.replace_schema_metadata(geo.said()), path)
    return len(rows)


class _Geo:
    """GeoParquet 1.1 with one kind of geometry: WKB, a column with the bounds of each row, and those of the file.

    Parameters
    ----------
    kind
        ``"Point"`` or ``"LineString"``.
    names
        Columns of positions.
    system
        Reference system of pyproj, or None.
    taken
        Names of the other columns.
    """

    def __init__(self, kind: str, names: list[str], system: Any, taken: list[str]) -> None:
        self._kind, self._names, self._system = kind, names, system
        self._column, self._primary = (name if name not in taken else f"{name}_" for name in (BBOX, GEOMETRY))
        self._lo, self._hi = np.full(len(names), np.inf), np.full(len(names), -np.inf)

    def points(self, table: Any) -> Any:
        """Table with geometry in place of the position columns."""
        positions = np.column_stack([np.asarray(table[name], np.float64) for name in self._names])
        return self.framed(table.drop_columns(self._names), positions, None)

    def framed(self, table: Any, positions: Values, lengths: Values | None) -> Any:
        """Table with geometry, of points, or of lines with given numbers of vertices, and the bounds of each row."""
        arrow = library("pyarrow")
        lo, hi = positions, positions
        if lengths is not None:
            starts = np.cumsum(lengths) - lengths
            if len(starts):
                lo, hi = np.minimum.reduceat(positions, starts), np.maximum.reduceat(positions, starts)
        self._lo = np.minimum(self._lo, lo.min(axis=0, initial=np.inf))
        self._hi = np.maximum(self._hi, hi.max(axis=0, initial=-np.inf))
        below, above = lo.astype(np.float32), hi.astype(np.float32)  # no narrower than what they enclose
        below = np.where(below > lo, np.nextafter(below, np.float32(-np.inf)), below)
        above = np.where(above < hi, np.nextafter(above, np.float32(np.inf)), above)
        bounds = arrow.StructArray.from_arrays([*map(arrow.array, (*below.T, *above.T))], names=self._ends)
        return table.append_column(self._primary, _wkb(positions, lengths)).append_column(self._column, bounds)

    @property
    def _ends(self) -> list[str]:
        axes = "xyz"[: len(self._names)]
        return [f"{axis}{end}" for end in ("min", "max") for axis in axes]

    def said(self) -> dict[str, str]:
        """GeoParquet's metadata."""
        about: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": [f"{self._kind} Z" if len(self._names) > 2 else self._kind],
            "crs": None if self._system is None else self._system.to_json_dict(),
            "covering": {BBOX: {end: [self._column, end] for end in self._ends}},
        }
        if (self._lo <= self._hi).all():
            about["bbox"] = [*self._lo.tolist(), *self._hi.tolist()]
        geo = {"version": "1.1.0", "primary_column": self._primary, "columns": {self._primary: about}}
        return {"geo": json.dumps(geo)}


def _wkb(positions: Values, lengths: Values | None) -> Any:
    """Arrow column of points, or of lines with given numbers of vertices."""
    arrow = library("pyarrow")
    lines, axes = lengths is not None, positions.shape[1]
    kind = next(number for number, form in WKB.items() if form == (lines, axes))
    counts = np.ones(len(positions), np.int64) if lengths is None else lengths
    head, row = 9 if lines else 5, 8 * axes
    sizes = head + counts * row
    starts = np.concatenate([[0], np.cumsum(sizes)])
    raw = np.empty(int(starts[-1]), np.uint8)
    at = starts[:-1]
    raw[at] = 1
    raw[at[:, None] + 1 + np.arange(4)] = np.array([kind], "<u4").view(np.uint8)
    if lines:
        raw[at[:, None] + 5 + np.arange(4)] = counts.astype("<u4").view(np.uint8).reshape(-1, 4)
    places = np.repeat(at + head, counts) + ragged_arange(counts) * row
    raw[places[:, None] + np.arange(row)] = np.ascontiguousarray(positions, "<f8").view(np.uint8).reshape(-1, row)
    buffers = [None, arrow.py_buffer(starts.astype(np.int64)), arrow.py_buffer(raw)]
    return arrow.LargeBinaryArray.from_buffers(arrow.large_binary(), len(counts), buffers)


# NumPy archives: everything that a level has, in one array each.
#
# ``vertices``; ``edges``, ``faces``, or ``offsets`` of paths, whose vertices are in path order; ``object_ids`` of
# vertices, or of paths. Others are ``attribute:NAME``, ``link_attribute:NAME``, ``object_attribute:NAME`` (in the
# order of the ids), ``group:NAME``, ``group_attribute:NAME``; ``missing:attribute:NAME`` says where values are
# missing. ``kind``, ``axes``, ``units`` and ``crs`` (JSON) describe the store. All but ``vertices`` may be left out;
# other arrays with a row for each vertex are attributes too.

NAMED = ("attribute", "link_attribute", "object_attribute", "group", "group_attribute", "missing")
PLAIN = ("vertices", "edges", "faces", "offsets", "object_ids", "kind", "axes", "units", "crs")
PATHS = ("line", "polyline", "streamline")
KINDS = {"point_cloud": "points", "streamline": "streamlines", "polyline": "polylines", "line": "polylines"}


def load_npz(path: Path, asked: LoadOptions) -> Loaded:
    """Read an archive that `save_npz` wrote, or one with some of its arrays."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # NumPy leaves a damaged one open
        found: dict[str, Values] = {name: arrays[name] for name in arrays.files}
    if "vertices" not in found:
        raise FileError(f"expected an array 'vertices', found {sorted(found)}")
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
            raise FileError(f"'missing:{key}' belongs to an array that does not exist")
        tables[part][name] = with_missing(tables[part][name], missing.astype(np.bool_))
    attributes = tables["attribute"]
    for name in asked.columns or ():
        if name not in attributes:
            raise NotFoundError.among("attribute", name, attributes)
    given: dict[str, Any] = {name: found.get(name) for name in ("faces", "offsets", "object_ids")}
    given |= {f"{part}s": tables[part] for part in ("link_attribute", "object_attribute", "group", "group_attribute")}
    return Loaded(
        kind=_kind(found),
        positions=_checked(found["vertices"]),
        axes=tuple(found["axes"].tolist()) if "axes" in found else None,
        unit=tuple(text or None for text in found["units"].tolist()) if "units" in found else None,
        crs=json.loads(str(found["crs"])) if "crs" in found else None,
        attributes={name: v for name, v in attributes.items() if asked.columns is None or name in asked.columns},
        edges=found.get("edges") if "faces" not in found and "offsets" not in found else None,
        left_out=tuple(left),
        **given,
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


def save_npz(out: Outgoing, path: Path) -> int:
    """Write a compressed archive; paths that a selection cuts become vertices and edges."""
    as_paths = out.geometry in PATHS and not out.cut
    kind = "graph" if out.geometry in PATHS and out.cut else KINDS.get(out.geometry, out.geometry)
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
        arrays |= {f"link_attribute:{name}": values for name, values in out.exact_links.items()}
    if out.has_objects:
        arrays |= {f"object_attribute:{name}": values for name, values in out.exact_objects.items()}
        arrays |= {f"group:{name}": values for name, values in out.groups.items()}
        arrays |= {f"group_attribute:{name}": values for name, values in out.exact_groups.items()}
    units = np.array([unit or "" for unit in out.units])
    crs = json.dumps(out.crs) if out.crs else None
    arrays |= {"axes": np.array(out.axes), "units": units if any(out.units) else None, "crs": crs}
    with path.open("wb") as file:
        np.savez_compressed(file, **_plain(arrays))
    return len(arrays["vertices"])


def _plain(arrays: dict[str, Any]) -> dict[str, Any]:
    """Arrays that need no pickle, and arrays that mark missing values."""
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


# Cells in AnnData's HDF5 files: positions in ``obsm``, attributes in ``obs``, genes on request.

PLACES = ("spatial", "X_spatial", "spatial3d", "X_umap", "X_tsne")
"""Members of ``obsm`` that may be positions; the first that exists is used."""
OBS_NAMES = "obs_names"


def load_h5ad(path: Path, asked: LoadOptions) -> Loaded:
    """Read cells: columns of ``obs``, vectors of ``obsm`` with up to three numbers, and genes of ``X`` in ``columns``.

    ``axes`` names columns of ``obs`` that are positions; by default they are in ``obsm``.
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
            positions = np.column_stack([np.asarray(_obs_column(obs[name]), np.float64) for name in asked.axes or ()])
        else:
            positions = np.asarray(file["obsm"][place])
        owner = asked.object_ids or (OBJECT_ID if OBJECT_ID in order else None)
        attributes, left = _cell_attributes(file, order, {owner, *(asked.axes or ())}, place, asked)
        return Loaded(
            kind="points",
            positions=positions,
            attributes=attributes,
            object_ids=None if owner is None else np.asarray(_obs_column(obs[owner])),
            left_out=tuple(left),
        )


def _cell_attributes(
    file: Any, order: list[str], used: set[Any], place: str | None, asked: LoadOptions
) -> tuple[dict[str, Any], list[str]]:
    """Columns that are not used otherwise, and vectors except the positions; and what is left out."""
    obs, vectors = file["obs"], file.get("obsm", {})
    columns = [name for name in order if name not in used]
    shown = [name for name, values in vectors.items() if name != place and len(getattr(values, "shape", ())) == 2]
    small = [name for name in shown if vectors[name].shape[1] <= 3]
    genes = _row_names(file["var"]) if "var" in file else []
    found: dict[str, Any] = {}
    for name in [*columns, *small] if asked.columns is None else [name for name in asked.columns if name not in used]:
        if name in columns:
            found[name] = _obs_column(obs[name])
        elif name in shown:
            found[name] = np.asarray(vectors[name])
        elif name in genes:
            found[name] = _gene(file["X"], genes.index(name), len(_row_names(obs)))
        elif name == OBS_NAMES:
            found[name] = np.array(_row_names(obs), object)
        else:
            raise NotFoundError.among("column", name, [*columns, *shown, OBS_NAMES, *genes])
    left = [f"obsm {name}" for name in vectors if name != place and name not in found]
    if asked.columns is None:
        left += [OBS_NAMES, *(name for name in ("X", "layers", "obsp", "uns") if name in file and len(file[name]))]
    return found, left


def _row_names(table: Any) -> list[str]:
    """Names of the rows of a table."""
    return [str(name) for name in _obs_column(table[table.attrs["_index"]])]


def _obs_column(node: Any) -> Any:
    """Values of a column as `Loaded` has them (AnnData's on-disk format)."""
    kind = node.attrs.get("encoding-type", "")
    if kind == "categorical":
        codes, known = np.asarray(node["codes"], np.int64), np.asarray(_obs_column(node["categories"]))
        missing = codes < 0
        values = known[np.where(missing, 0, codes)] if len(known) else np.full(len(codes), None)
        return with_missing(values, missing)
    if kind.startswith("nullable"):
        return with_missing(_obs_column(node["values"]), np.asarray(node["mask"], np.bool_))
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
    values: dict[str, Any] = flat_columns(out.exact, (OBJECT_ID,) if out.has_objects else ())
    if out.has_objects:
        values[OBJECT_ID] = out.vertex_object_ids
    count = len(out.flat)
    with library("h5py").File(path, "w") as file:
        _encoded(file, "anndata", "0.1.0")
        obs = _put_frame(file, "obs", [str(row) for row in range(count)])
        kept = [name for name, array in values.items() if _put_column(out, obs, name, array)]
        obs.attrs["column-order"] = np.array(kept, object) if kept else np.empty(0)
        _put_frame(file, "var", [])
        _encoded(file.create_group("obsm"), "dict", "0.1.0")
        _encoded(file["obsm"].create_dataset("spatial", data=out.flat), "array", "0.2.0")
    return count


def _encoded(node: Any, kind: str, version: str) -> Any:
    node.attrs["encoding-type"], node.attrs["encoding-version"] = kind, version
    return node


def _put_frame(file: Any, name: str, index: list[str]) -> Any:
    table = _encoded(file.create_group(name), "dataframe", "0.2.0")
    table.attrs["_index"], table.attrs["column-order"] = "_index", np.empty(0)
    _put_text(table, "_index", index)
    return table


def _put_text(group: Any, name: str, values: Any) -> None:
    data = np.array(list(values), object)
    made = group.create_dataset(name, data=data, dtype=library("h5py").string_dtype())
    _encoded(made, "string-array", "0.2.0")


def _put_column(out: Outgoing, table: Any, name: str, values: Any) -> bool:
    """Add a column; returns False, and reports it as left out, if the format cannot hold it."""
    if values.dtype.kind in "mM" or "/" in name or name == "_index":
        out.leave(f"attribute {name}")
        return False
    if isinstance(values, np.ma.MaskedArray):
        word = "boolean" if values.dtype.kind == "b" else "integer"
        group = _encoded(table.create_group(name), f"nullable-{word}", "0.1.0")
        for part, data in (("values", values.data), ("mask", np.ma.getmaskarray(values))):
            _encoded(group.create_dataset(part, data=data), "array", "0.2.0")
    elif values.dtype.kind in "UO":
        codes, known = encode_categories(values)
        group = _encoded(table.create_group(name), "categorical", "0.2.0")
        group.attrs["ordered"] = False
        _encoded(group.create_dataset("codes", data=codes.astype(np.int32)), "array", "0.2.0")
        _put_text(group, "categories", known.categories.tolist())
    else:
        _encoded(table.create_dataset(name, data=values), "array", "0.2.0")
    return True
