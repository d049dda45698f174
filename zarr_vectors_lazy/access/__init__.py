"""What joins formats to stores: metadata on demand, and what tasks run."""
