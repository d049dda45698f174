"""Benchmarks of the reader: see ``benchmarks/README.md``."""
