"""What all generations parse into: frozen records without I/O."""
