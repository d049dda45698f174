"""What is done to a store in place: counts, consolidated metadata, shards, what it keeps."""
