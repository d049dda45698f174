"""Levels as files of the field: tables, points and meshes, skeletons, streamlines."""
