"""The records that all generations parse into: frozen, without I/O."""
