"""Arrays become a store, or change an existing one."""
