"""What tasks run to check a store."""
