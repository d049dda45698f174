"""Arrays and metadata in, other people's objects out."""
