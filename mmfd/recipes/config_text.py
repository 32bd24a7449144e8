"""A config as the text of a Python file, as one would write it by hand."""
import textwrap
from keyword import iskeyword

from yapf.yapflib import yapf_api

STYLE = ('{based_on_style: pep8, split_before_first_argument: true, '
         'allow_split_before_dict_value: false}')


def config_text(title, command, why, base, settings):
    """The text of a config.

    Args:
        title (str): what it trains, a line.
        command (str): that makes it.
        why (list[str]): sentences on what was chosen.
        base (str): path of the file below `configs/` that it builds on.
        settings (str): Python, that follows.

    Returns:
        str: of a file that builds on the configs of whichever mmfd reads it.
    """
    reasons = '\n'.join(
        textwrap.fill(f'- {sentence}', 79, subsequent_indent='  ')
        for sentence in why)
    docstring = f'{title}\n\nMade by\n\n    {command}\n\n{reasons}\n'
    docstring = docstring.replace('\\', r'\\').replace('"', r'\"')
    ours = f"__import__('mmfd').__path__[0] + '/.mim/configs/{base}'"
    text = f'"""{docstring}"""\n_base_ = {ours}\n\n{settings.strip()}\n'
    return yapf_api.FormatCode(text, style_config=STYLE)[0]


def code(value):
    """A value as Python; dicts whose keys are names become calls of `dict`."""
    if isinstance(value, dict) and all(map(_is_name, value)):
        return 'dict({})'.format(', '.join(f'{key}={code(part)}'
                                           for key, part in value.items()))
    if isinstance(value, (list, tuple)):
        left, right = '[]' if isinstance(value, list) else '()'
        comma = ',' * (isinstance(value, tuple) and len(value) == 1)
        return left + ', '.join(map(code, value)) + comma + right
    return repr(value)


def _is_name(key):
    return key.isascii() and key.isidentifier() and not iskeyword(key)
