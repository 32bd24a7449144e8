"""Numbers of a plan or a measurement: how each is known, tables of them."""
from dataclasses import dataclass
from datetime import timedelta


@dataclass
class Quantity:
    """A number, and whether it is counted, stated or assumed."""
    name: str
    value: float
    unit: str
    how: str
    note: str = ''


def table(title, figures):
    """Lines of text."""
    yield f'\n{title}'
    for figure in figures:
        yield (f'  {figure.name:<12}{_readable(figure):>12}  '
               f'{figure.how:<8} {figure.note}').rstrip()


def _readable(figure):
    if figure.unit == 'B':
        return readable_bytes(figure.value)
    if figure.unit == 's':
        return str(timedelta(seconds=round(figure.value)))
    if figure.unit == 'FLOP':
        exponent = max(int(f'{figure.value:e}'.split('e')[1]) // 3 * 3, 0)
        return f'{figure.value / 10**exponent:.4g}e{exponent}'
    if isinstance(figure.value, float):
        return f'{figure.value:.4g} {figure.unit}'
    return f'{figure.value:,}'


def readable_bytes(count):
    """Bytes, as people read them."""
    return f'{count / 2**30:.1f} GiB' if count > 2**30 else (
        f'{count / 2**20:.0f} MiB')
