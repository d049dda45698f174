"""Levels written as stores of their own."""
