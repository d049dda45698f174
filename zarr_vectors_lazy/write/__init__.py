"""Arrays become a store, or change one."""
