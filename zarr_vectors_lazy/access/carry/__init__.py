"""What tasks run to carry a store into another of the written format."""
