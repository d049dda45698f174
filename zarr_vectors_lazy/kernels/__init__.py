"""NumPy in, NumPy out."""
