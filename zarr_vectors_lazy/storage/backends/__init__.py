"""The backends, one module each; optional packages are imported only there."""
