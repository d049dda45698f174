"""A store over HTTP: its objects for viewers, and a page that draws it."""
