"""Stores and levels as text, HTML and drawings."""
