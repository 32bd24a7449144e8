"""A config that builds on another base: the same change of another run."""
import re


def rebased(leaf, base, folder):
    """Write a copy of a config that builds on another one.

    Only `_base_` is replaced, so the copy changes in `base` what the leaf
    changes in its own, and nothing else.

    Args:
        leaf (Path): the config, whose `_base_` is one line.
        base (Path): what the copy builds on.
        folder (Path): for the copy, which has the leaf's name.

    Returns:
        Path: the copy.
    """
    text, count = re.subn(
        '^_base_ = .*$', f"_base_ = '{base}'", leaf.read_text(), flags=re.M)
    assert count == 1, leaf
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / leaf.name
    path.write_text(text)
    return path
