"""Quantities of a plan or a measurement, and tables of them."""
from dataclasses import dataclass
from datetime import timedelta


@dataclass
class Quantity:
    """A number, its unit, and how it is known.

    Attributes:
        unit (str): `B` bytes, `FLOP` floating-point operations, `s`, `ms`,
            `img/s`, `%`, or empty for a plain number.
        how (str): `counted`, `measured`, `stated` by the user or `assumed`.
        note (str): what a reader should know of it.
    """
    name: str
    value: float
    unit: str
    how: str
    note: str = ''


def table(title, quantities):
    """Lines of text: the title, then a line for each quantity."""
    yield f'\n{title}'
    for quantity in quantities:
        yield (f'  {quantity.name:<12}{_readable(quantity):>12}  '
               f'{quantity.how:<8} {quantity.note}').rstrip()


def _readable(quantity):
    value, unit = quantity.value, quantity.unit
    if unit == 'B':
        return readable_bytes(value)
    if unit == 's':
        return str(timedelta(seconds=round(value)))
    if unit == 'FLOP':
        exponent = max(int(f'{value:e}'.split('e')[1]) // 3 * 3, 0)
        return f'{value / 10**exponent:.4g}e{exponent}'
    if isinstance(value, float):
        return f'{value:.4g} {unit}'
    return f'{value:,}'


def readable_bytes(count):
    """'1.5 GiB', '20 MiB' or '110 KiB'."""
    if count > 2**30:
        return f'{count / 2**30:.1f} GiB'
    unit, power = ('MiB', 20) if count >= 2**20 else ('KiB', 10)
    return f'{count / 2**power:.0f} {unit}'
