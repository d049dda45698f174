"""The command ``zvl``."""


class Stopped(Exception):
    """The user has stopped a word; the message tells what is left."""
