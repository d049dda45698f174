"""The generation that stores are written in; what is above speaks to `CURRENT` and names none.

How a level is written: tasks turn payloads into puts with `cell_puts` and leave a `LevelRecord` each; when all are
done, `level_puts` makes the metadata of the joined record. Payloads are made by `encode_rows`, `encode_tiling`,
`encode_fragments` and, for links, `place_links`. Nothing here touches a store.
"""

from zarr_vectors_lazy.format.dictionary import (
    MISSING,
    code_dtype,
    encode_categories,
    encode_integers,
    parse_text,
    taken,
)
from zarr_vectors_lazy.format.encoding import MAX_PAYLOAD_NBYTES
from zarr_vectors_lazy.format.fragments import encode_fragments, encode_tiling
from zarr_vectors_lazy.format.v09.documents import cells_document, dump, group_document, marked_cells, root_attributes
from zarr_vectors_lazy.format.v09.layout import GridLayout
from zarr_vectors_lazy.format.v09.notes import ANY, kept, root_with_notes, with_notes
from zarr_vectors_lazy.format.v09.placement import MAX_PERMUTED, PlacedLinks, place_links
from zarr_vectors_lazy.format.v09.reshard import (
    Resharding,
    array_form,
    is_cell_array,
    pack_puts,
    plan_resharding,
    stale_prefix,
)
from zarr_vectors_lazy.format.v09.stamps import with_counts, with_spec, with_total, without_counts
from zarr_vectors_lazy.format.v09.writing import Writing09
from zarr_vectors_lazy.format.vectors import encode_rows, is_number, is_time, missing_codes

__all__ = [
    "ANY",
    "CURRENT",
    "MAX_PAYLOAD_NBYTES",
    "MAX_PERMUTED",
    "MISSING",
    "GridLayout",
    "PlacedLinks",
    "Resharding",
    "array_form",
    "cells_document",
    "code_dtype",
    "dump",
    "encode_categories",
    "encode_fragments",
    "encode_integers",
    "encode_rows",
    "encode_tiling",
    "group_document",
    "is_cell_array",
    "is_number",
    "is_time",
    "kept",
    "marked_cells",
    "missing_codes",
    "pack_puts",
    "parse_text",
    "place_links",
    "plan_resharding",
    "root_attributes",
    "root_with_notes",
    "stale_prefix",
    "taken",
    "with_counts",
    "with_notes",
    "with_spec",
    "with_total",
    "without_counts",
]

CURRENT = Writing09()
