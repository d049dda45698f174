"""What a user requests, as plain values: boxes, conditions, blocks, shapes."""
