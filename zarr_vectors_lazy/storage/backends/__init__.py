"""The backends, one module each; the optional packages are imported there and nowhere else."""
