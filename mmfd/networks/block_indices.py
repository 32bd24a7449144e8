"""Indices of blocks or stages, counted from the first one."""
from mmfd.errors import Refused


def from_the_first(name, indices, count, parts, least=1):
    """Count indices from the first part, as negative ones from the last.

    Args:
        name (str): of the setting, for messages.
        indices (int | Sequence[int]): -1 is the last part.
        count (int): of parts.
        parts (str): what they are: `blocks`.
        least (int): how many indices there are to be.

    Returns:
        list[int]: from 0 on.

    Raises:
        Refused: for an index of no part, or too few.
    """
    indices = [indices] if isinstance(indices, int) else [*indices]
    if len(indices) < least or not all(-count <= index < count
                                       for index in indices):
        raise Refused(f'{name}={indices} of a backbone of {count} {parts}: '
                      f'set backbone.{name} to some of 0 to {count - 1}')
    return [index % count for index in indices]
