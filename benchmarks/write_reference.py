"""Write a dataset with the reference package, inside its environment: ``write_reference FOLDER DATASET-AS-JSON``."""

import json
import sys

from zarr_vectors.types.points import write_points

from benchmarks.datasets import Dataset, random_points
from benchmarks.handmade import EDGE

if __name__ == "__main__":
    dataset = Dataset(**json.loads(sys.argv[2]))
    positions, intensity = random_points(dataset)
    write_points(sys.argv[1], positions, chunk_shape=(EDGE,) * 3, vertex_attributes={"intensity": intensity})
