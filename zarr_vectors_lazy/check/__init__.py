"""Whether a store obeys its format."""
