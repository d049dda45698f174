"""What a user asks for, as plain values: boxes, conditions, blocks, shapes."""
