"""Refused: the one exception that a user can cause, and a kind of it."""


class Refused(ValueError):
    """mmfd cannot do what a user asked for; the message says what to change.

    It is raised where a user's input is found to be wrong: a config, an
    option, a file, a folder, the environment. The commands print its message
    and end with exit status 1. Any other exception is a bug, of mmfd or of a
    library, and keeps its traceback.
    """


class NotWeights(Refused):
    """A file can be read, and holds what weights are not made of.

    The message goes on a sentence that begins with the name of the file.
    """


def causes(error):
    """An error and those that it came of, the first of all at the end."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
