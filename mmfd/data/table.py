"""Tables of millions of rows in files of the cache, which are mapped.

A process that maps a table takes next to no memory for it: all that do share
what the system keeps of the file.
"""
import json
import os
import zlib
from contextlib import suppress

import numpy as np

from mmfd.files import OWN_FILE, is_own, make_own_folder, written_whole
from mmfd.hosts import log

BEGIN = b'mmfd table 1\n\0\0\0'  # 16 bytes
ALIGNED = 16  # bytes, to which columns are filled up
DIGITS = 8  # of each of two numbers at the end: length and sum of the JSON
SUMMED = 1 << 24  # bytes that are read at a time


class Table:
    """Columns of numbers, and notes that JSON can hold.

    Args:
        columns (dict): name -> ndarray.
        notes (dict): what belongs to them.
        path (Path): their file, if they have one. Then that alone is sent to
            other processes, which map it, as long as it is the same file.
        mark (bytes): the end of that file, by which it is known.
    """

    def __init__(self, columns, notes, path=None, mark=None):
        self.columns, self.notes = columns, notes
        self.path, self.mark = path, mark

    def __getitem__(self, name):
        return self.columns[name]

    def __reduce__(self):
        dtypes = {name: column.dtype for name, column in self.columns.items()}
        there = self.path, dtypes, self.mark
        # another run may have replaced the file since
        if self.path is None or _mapped_elsewhere(*there) is None:
            return Table, (self.columns, self.notes)
        return _mapped_elsewhere, there


def write_table(path, columns, notes):
    """Write a table whole or not at all, piece by piece.

    Args:
        path (Path): file in a folder of the cache.
        columns (dict): name -> (dtype, arrays), which follow each other. All
            of a column are taken before the next one begins.
        notes (callable): gives the notes, when the columns are written.

    Returns:
        Table: of the file.

    Raises:
        OSError: if it cannot be written.
    """
    make_own_folder(path.parent)
    with written_whole(path, durable=False, mode=OWN_FILE) as temporary:
        with open(temporary, 'wb') as file:
            crc = _write(file, np.frombuffer(BEGIN, np.uint8), 0)
            described = {}
            for name, (dtype, arrays) in columns.items():
                start = file.tell()
                for array in arrays:
                    crc = _write(file, np.asarray(array, dtype), crc)
                described[name] = dict(
                    dtype=str(np.dtype(dtype)), start=start, stop=file.tell())
                filling = np.zeros(-file.tell() % ALIGNED, np.uint8)
                crc = _write(file, filling, crc)
            end = json.dumps(dict(columns=described, notes=notes(),
                                  sum=crc)).encode()
            file.write(end + b'%0*x%0*x' %
                       (DIGITS, len(end), DIGITS, zlib.crc32(end)))
        with open(temporary, 'rb') as file:  # the path may be replaced
            return _mapped(file, path, {
                name: dtype
                for name, (dtype, _) in columns.items()
            })


def keep_table(path, make, what):
    """Write a table; keep it in memory, with a warning, where that fails.

    Args:
        path (Path): as of `write_table`.
        make (callable): gives the columns and notes of `write_table`.
        what (str): whose images it lists, for the warning.

    Returns:
        Table
    """
    try:
        return write_table(path, *make())
    except OSError as error:
        # only a help, so the run goes on without it
        log.warn(
            f'the list of images in {what} could not be cached in {path}: '
            f'{error.strerror}. They will be listed again next time; set '
            'XDG_CACHE_HOME to a folder of your own with room')
    return table_of(*make())


def table_of(columns, notes):
    """A table in memory, of what `write_table` takes."""
    columns = {
        name: np.concatenate([np.empty(0, dtype), *arrays])
        for name, (dtype, arrays) in columns.items()
    }
    return Table(columns, notes())


def read_table(path, columns):
    """The table in a file of the cache.

    Args:
        path (Path): file.
        columns (dict): name -> dtype of each column.

    Returns:
        Table | None: None if there is none, if it is damaged or of other
        columns, or if others can write to it.
    """
    if not is_own(path):
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        with open(path, 'rb') as file:  # one file, though it be replaced
            end, data = _end_of(file), np.memmap(file, np.uint8, 'r')
            dtypes = {name: str(np.dtype(of)) for name, of in columns.items()}
            if dtypes == {
                    name: column['dtype']
                    for name, column in end['columns'].items()
            } and end['sum'] == sum_of(data[:end['start']]):
                return _mapped(file, path, columns)
    return None


def _write(file, array, crc):
    """Write an array, and return the sum of what is written so far."""
    file.write(array.data)
    return sum_of(array, crc)


def sum_of(array, crc=0):
    """The CRC-32 of an array, behind what had another one."""
    data = array.view(np.uint8)
    for start in range(0, len(data), SUMMED):
        crc = zlib.crc32(data[start:start + SUMMED], crc)
    return crc


def _end_of(file):
    """The JSON at the end of an open file, and the byte where it starts."""
    stop = file.seek(-2 * DIGITS, os.SEEK_END)
    mark = file.read(2 * DIGITS)
    length, crc = int(mark[:DIGITS], 16), int(mark[DIGITS:], 16)
    start = file.seek(stop - length)
    end = file.read(length)
    if zlib.crc32(end) != crc:
        raise ValueError(f'{file.name} is damaged')
    return dict(json.loads(end), start=start, mark=mark)


def _mapped(file, path, dtypes):
    end, data = _end_of(file), np.memmap(file, np.uint8, 'r')
    columns = {}
    for name, dtype in dtypes.items():
        column = end['columns'][name]
        columns[name] = data[column['start']:column['stop']].view(dtype)
    return Table(columns, end['notes'], path, end['mark'])


def _mapped_elsewhere(path, dtypes, mark):
    """The table that another process has; None where its file is not.

    So it is on another machine, which has none or a list of its own.
    """
    with suppress(OSError):
        with open(path, 'rb') as file:
            file.seek(-len(mark), os.SEEK_END)
            if file.read() == mark:
                return _mapped(file, path, dtypes)
    return None
