"""Building a coarser level from a finer one."""
