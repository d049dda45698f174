"""Levels as objects of other libraries, made from arrays and metadata."""
