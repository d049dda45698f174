"""The writers: arguments checked, and written from memory or out of core."""
