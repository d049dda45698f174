"""What writers return, with the keys of the reference package."""

from typing import Any

import numpy as np

from zarr_vectors_lazy.access.write.job import Prepared
from zarr_vectors_lazy.model.writing import LevelRecord


def of_points(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_points`."""
    store, objects = prepared.job.store, prepared.job.objects
    return {
        "vertex_count": record.vertex_count,
        "chunk_count": len(record.coords),
        "object_count": 0 if objects is None else len(objects.ids),
        "group_count": 0 if objects is None else len(objects.groups),
        "bins_per_chunk": tuple(np.rint(store.chunk_shape / store.bin_shape).astype(int).tolist()),
    }


def of_lines(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_lines`."""
    lines = 0 if prepared.job.objects is None else len(prepared.job.objects.ids)
    return {"line_count": lines, "chunk_count": len(record.coords), "cross_chunk_count": sum(_links(prepared))}


def of_polylines(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_polylines`."""
    objects = prepared.job.objects
    return {
        "polyline_count": 0 if objects is None else len(objects.ids),
        "vertex_count": record.vertex_count,
        "chunk_count": len(record.coords),
        "cross_chunk_link_count": sum(_links(prepared)),
        "group_count": 0 if objects is None else len(objects.groups),
    }


def of_graph(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_graph`."""
    job = prepared.job
    within, across = _links(prepared)
    return {
        "node_count": record.vertex_count,
        "edge_count": prepared.given_links,
        "chunk_count": len(record.coords),
        "intra_edge_count": within,
        "cross_edge_count": across,
        "object_count": 0 if job.objects is None else len(job.objects.ids),
        "kind": job.store.geometry_types[0],
    }


def of_mesh(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_mesh`."""
    within, across = _links(prepared)
    return {
        "vertex_count": record.vertex_count,
        "face_count": within + across,
        "chunk_count": len(record.coords),
        "intra_face_count": within,
        "cross_face_count": across,
        "encoding": "raw",
    }


def _links(prepared: Prepared) -> tuple[int, int]:
    """Stored records inside chunks, and across."""
    return prepared.link_counts or (0, 0)
