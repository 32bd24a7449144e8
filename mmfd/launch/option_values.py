"""What the text of a command line's option means: a number, a list, text."""

BRACKETS = {'[': (']', list), '(': (')', tuple), '{': ('}', dict)}
CONSTANTS = dict(true=True, false=False)
QUOTES = '"', "'"


def value_of(text):
    """The value that a text stands for, in the syntax of OpenMMLab.

    What begins with a bracket is a list, tuple or dict, whose texts need no
    quotes. Everything else is one value: blanks and commas belong to it, as in
    a path. In quotes it is text, whatever it looks like.

    Returns:
        int | float | bool | None | str | list | tuple | dict

    Raises:
        ValueError: for brackets or quotes that do not match.
    """
    if text[:1] in BRACKETS:
        return _collection(text)
    if len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES:
        return text[1:-1]
    for number in int, float:
        try:
            return number(text)
        except ValueError:
            pass
    return None if text == 'None' else CONSTANTS.get(text.lower(), text)


def _collection(text):
    closing, kind = BRACKETS[text[0]]
    if text[-1] != closing:
        raise ValueError(f'{closing!r} is missing at the end')
    parts = [*_split(text[1:-1], ',')]
    if not parts[-1]:  # of (1,) and of []
        parts.pop()
    if kind is not dict:
        return kind(map(value_of, parts))
    pairs = [[*_split(part, ':')] for part in parts]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError('{key: value} is expected')
    return {value_of(key): value_of(value) for key, value in pairs}


def _split(text, separator):
    """The parts of a text between separators outside of brackets and quotes.

    Blanks around a part are left out.
    """
    part, closing = '', []  # the brackets and the quote that are open
    for char in text:
        if closing and char == closing[-1]:
            closing.pop()
        elif closing and closing[-1] in QUOTES:
            pass
        elif char in QUOTES:
            closing.append(char)
        elif char in BRACKETS:
            closing.append(BRACKETS[char][0])
        elif char in ')]}':
            raise ValueError(f'{char!r} closes nothing in {text}')
        elif char == separator and not closing:
            yield part.strip()
            part = ''
            continue
        part += char
    if closing:
        raise ValueError(f'{closing[-1]!r} is missing in {text}')
    yield part.strip()
