"""Refused: the one exception that a user can cause."""


class Refused(ValueError):
    """What was asked cannot be done, and the message says what to turn.

    Raised where a user's input is found wrong: a config, an option, a file, a
    folder, an environment. The commands print it as one message and end with
    exit status 1. Every other exception is a bug, of mmfd or of a library, and
    keeps its traceback.
    """
