"""What tasks run to write a store, whole or in parts."""
