"""The command ``zvl``."""


class Stopped(Exception):
    """The user has stopped a command; the message says what is left."""
