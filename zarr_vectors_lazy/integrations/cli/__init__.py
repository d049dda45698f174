"""The command ``zvl``."""
