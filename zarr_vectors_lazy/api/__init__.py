"""The public objects: stores, levels, objects."""
