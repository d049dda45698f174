"""Bytes of many objects at once, from wherever a store is."""
