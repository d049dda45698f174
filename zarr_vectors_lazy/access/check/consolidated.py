"""Whether the consolidated metadata of a root still say what the documents of the nodes say."""

from collections.abc import Iterator
from typing import Any

from zarr_vectors_lazy.access.store import OpenStore
from zarr_vectors_lazy.access.upkeep.consolidate import read_nodes
from zarr_vectors_lazy.model.findings import Finding, Severity
from zarr_vectors_lazy.types import Json

SAID = ("node_type", "shape", "data_type", "chunk_grid", "attributes")
REMEDY = "consolidate writes them anew, consolidated=False ignores them"


def check_consolidated(opened: OpenStore) -> Iterator[Finding]:
    """Findings about the root's consolidated metadata, of a store that was opened without them.

    An error where this package's readers would believe them, else a warning: Zarr believes them always. A node that
    they do not name is none where they are not believed. Reads the metadata of every node, where there are any.
    """
    root = opened.tree.node("")
    inline = None if root is None else root.doc.get("consolidated_metadata")
    entries = inline.get("metadata") if isinstance(inline, dict) else None
    if not isinstance(inline, dict) or not isinstance(entries, dict) or not opened.tree.backend.listable:
        return
    believed = opened.generation.trusts_consolidated(inline)
    severity: Severity = "error" if believed else "warning"
    nodes = {path: _said(doc) for path, doc in read_nodes(opened.tree).items()}
    stated = {path.strip("/"): _said(doc) for path, doc in entries.items()}
    gone = sorted(path for path in stated.keys() - nodes.keys())
    other = sorted(path for path in stated.keys() & nodes.keys() if stated[path] != nodes[path])
    unnamed = sorted(nodes.keys() - stated.keys()) if believed else []
    for paths, text in (
        (other, "say something else than the node's own document"),
        (gone, "name a node that is not there"),
        (unnamed, "do not name the node"),
    ):
        if paths:
            more = f", and of {len(paths) - 1} more" if len(paths) > 1 else ""
            yield Finding("metadata", severity, paths[0], f"the root's consolidated metadata {text}{more}; {REMEDY}")


def _said(doc: Any) -> Json:
    """What readers go by: Zarr's own consolidated metadata spell out defaults of the rest."""
    if not isinstance(doc, dict):
        return {}
    codecs = [codec.get("name") for codec in doc.get("codecs") or () if isinstance(codec, dict)]
    said = {name: doc[name] for name in SAID if name in doc}
    return {**said, "attributes": doc.get("attributes") or {}, "codecs": codecs}
