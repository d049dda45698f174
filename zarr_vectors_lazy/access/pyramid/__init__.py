"""What tasks run to make a coarser level from a finer one."""
