"""A coarser level is made from a finer one."""
