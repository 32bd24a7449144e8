"""What `torch.save` and TorchScript write, read without code.

Both of PyTorch's formats are pickles and the numbers of tensors: since 1.6 a
zip of `data.pkl` and a file for each storage, before that one after the other.
The first bytes of a file say which it is, and the same bytes are then read so.
Every byte has one meaning: the parts follow each other without overlap, and
nothing lies before or behind them.

A TorchScript archive, as OpenAI publishes CLIP, is such a zip. Its `data.pkl`
describes a tree of modules by classes that code in the archive defines; stubs
take their place, and the code is not read.
"""
import io
import mmap
import os
import re
import zlib
from struct import unpack

import torch
from torch.utils import serialization

from mmfd.errors import NotWeights, Refused
from mmfd.weights.pickled_names import Storage, Stub
from mmfd.weights.unpickler import Unpickler
from mmfd.weights.weight_files import first_few

ZIP = b'PK\3\4'
PICKLE = re.compile(rb'[^/]+/data\.pkl')
MAGIC_NUMBER = 0x1950a86a20f9469cfc6c  # of PyTorch's older format
PART, STORAGE = 330, 360  # bytes of memory, besides those stored
LONGEST_GAP = 24  # between parts: their sizes, written behind them
WIDE = 0xffffffff  # stands for a number of 64 bits elsewhere


def load(path, budget):
    """Read a file.

    With `torch.utils.serialization.config.load.mmap` tensors of a zip are
    mapped: their numbers are read from the file when they are used.

    Args:
        path (Path): of the file.
        budget (MemoryBudget): for all that is read and made.

    Returns:
        The object in it; of a TorchScript archive the state dict, with a dot
        between the names of modules.

    Raises:
        Refused: if it is damaged, could be read in another way, or holds what
            `Unpickler` refuses.
        Exception: of any kind, if it is damaged.
    """
    with open(path, 'rb') as file:
        start = file.read(4)
        file.seek(0)
        reader = _Zip if start == ZIP else _Older
        content = reader(file, budget).load()
    return dict(_tensors(content)) if isinstance(content, Stub) else content


def _tensors(module, prefix=''):
    """Yield the tensors in a tree of modules, with their names."""
    for name, value in module.state.items():
        if isinstance(value, Stub) and isinstance(value.state, dict):
            yield from _tensors(value, f'{prefix}{name}.')
        elif isinstance(value, torch.Tensor):
            yield prefix + name, value


def _fill(content, file):
    """Read as many bytes as fit."""
    if file.readinto(content) < len(content):
        raise Refused('it ends too early')


def _fill_storage(storage, file):
    """Read the numbers of a torch.UntypedStorage."""
    _fill(torch.empty(0, dtype=torch.uint8).set_(storage).numpy(), file)


class _Older:
    """The format before 1.6: five pickles, then the storages in turn."""

    def __init__(self, file, budget):
        self.file, self.budget = file, budget
        self.unpickler = Unpickler(file, budget, self._storage)
        self.storages = {}  # key -> (Storage, number of elements)

    def load(self):
        if self.unpickler.load() != MAGIC_NUMBER:
            raise NotWeights('is a pickle that torch.save has not written')
        version, machine, content, keys = (
            self.unpickler.load() for _ in range(4))
        if sorted(keys) != sorted(self.storages):
            raise Refused('its list of storages is not of its tensors')
        for key in keys:
            storage, length = self.storages[key]
            if unpack('<q', self.file.read(8))[0] != length:
                raise Refused('a storage has another size than its tensor')
            _fill_storage(storage.bytes, self.file)
        if self.file.read(1):
            raise Refused('something lies behind its last number')
        return content

    def _storage(self, key, dtype, length):
        if key not in self.storages:
            size = length * dtype.itemsize
            self.budget.spend(size + STORAGE)
            storage = Storage(torch.UntypedStorage(size), dtype)
            self.storages[key] = storage, length
        return self.storages[key][0]


class _Zip:
    """The format since 1.6, and TorchScript: a zip of files as they are."""

    def __init__(self, file, budget):
        self.file, self.budget = file, budget
        self.parts, self.storages = {}, {}  # name -> _Part; key -> Storage
        # private: what is written to its tensors stays out of the file
        self.map = mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_COPY
        ) if serialization.config.load.mmap else None

    def load(self):
        self._read_directory()
        pickled = next(filter(PICKLE.fullmatch, self.parts), None)
        if pickled is None:
            names = [os.fsdecode(name) for name in self.parts]
            raise NotWeights(
                f'is a zip archive of {first_few(names, 3)}, none of them '
                'data.pkl: if one of them holds the weights, unpack it')
        self.root = pickled.removesuffix(b'data.pkl')
        if not all(name.startswith(self.root) for name in self.parts):
            raise Refused('it holds files of two archives')
        order = self.root + b'byteorder'
        if order in self.parts and self._read(order) != b'little':
            raise Refused('the bytes of its numbers are in another order')
        content = io.BytesIO(self._read(pickled))
        return Unpickler(content, self.budget, self._storage).load()

    def _storage(self, key, dtype, length):
        if key not in self.storages:
            size = length * dtype.itemsize
            self.budget.spend(size + STORAGE)
            part = self._find(self.root + f'data/{key}'.encode())
            if part.size != size:
                raise Refused('a storage has another size than its tensor')
            self.storages[key] = Storage(self._numbers(size), dtype)
        storage = self.storages[key]
        if storage.dtype is not dtype:
            raise Refused('it reads the same numbers in two ways')
        return storage

    def _numbers(self, size):
        """The bytes from here on, as a torch.UntypedStorage."""
        if self.map and size:
            return torch.frombuffer(
                self.map,
                dtype=torch.uint8,
                offset=self.file.tell(),
                count=size).untyped_storage()
        storage = torch.UntypedStorage(size)
        _fill_storage(storage, self.file)
        return storage

    def _read(self, name):
        part = self._find(name)
        self.budget.spend(part.size)
        content = self.file.read(part.size)
        if zlib.crc32(content) != part.crc:
            raise Refused(f'its file {ascii(name.decode())[:99]} is damaged')
        return content

    def _find(self, name):
        """Go to where a part begins, which is to be stored as it is."""
        part = self.parts.pop(name.lower(), None)
        if not part:
            raise Refused(f'it has no file {ascii(name.decode())[:99]}')
        self.budget.spend(-PART)
        self.file.seek(part.start)
        mark, _, flags, method, *_, size, name_length, extra_length = unpack(
            '<4s5H3L2H', self.file.read(30))
        named = self.file.read(name_length).lower() == name.lower()
        if (mark, flags & 1, method,
                named) != (ZIP, 0, 0, True) or (size
                                                not in (0, part.size, WIDE)):
            raise Refused('its tensors are compressed, or its table of '
                          'contents contradicts itself')
        begin = part.start + 30 + name_length + extra_length
        if not 0 <= part.end - begin - part.size <= LONGEST_GAP:
            raise Refused('its parts overlap, or something is between them')
        self.file.seek(begin)
        return part

    def _read_directory(self):
        """Read the table of contents."""
        start, length, count = self._find_directory()
        self.file.seek(start)
        self.budget.spend(length)
        table, last = io.BytesIO(self.file.read(length)), None
        while table.tell() < length:
            (mark, _, _, flags, *_, crc, packed, size, name_length,
             extra_length, comment, _, _, _,
             begin) = unpack('<4s6H3L5H2L', table.read(46))
            name = table.read(name_length).lower()
            size, packed, begin = _wide((size, packed, begin),
                                        table.read(extra_length))
            if (mark, flags & 1, comment) != (
                    b'PK\1\2', 0,
                    0) or not (begin > last.start if last else begin == 0):
                raise Refused('its table of contents contradicts itself')
            if name in self.parts:
                raise Refused('it holds two files of one name')
            if last:
                last.end = begin
            self.budget.spend(PART)
            last = self.parts[name] = _Part(begin, start, size, crc)
        if len(self.parts) != count:
            raise Refused('its table of contents contradicts itself')
        self.budget.spend(-length)

    def _find_directory(self):
        """Where the table of contents begins, its length, and its entries.

        Readers search for it in different ways; here it ends where the file
        ends, behind the parts of the archive.
        """
        size = self.file.seek(0, os.SEEK_END)
        self.file.seek(max(size - 98, 0))
        tail = self.file.read(98).rjust(98, b'\0')
        mark, *_, count, length, start, comment = unpack('<4s4H2LH', tail[76:])
        end = size - 22
        if tail[56:60] == b'PK\6\7':  # a locator, before it wide numbers
            end = size - 98
            narrow = count, length, start
            count, length, start = unpack('<3Q', tail[32:56])
            located = unpack('<Q', tail[64:72])[0]
            if tail[:4] != b'PK\6\6' or located != end or any(
                    x not in (y, 0xffff, WIDE)
                    for x, y in zip(narrow, (count, length, start))):
                raise Refused('its table of contents contradicts itself')
        if (mark, comment, start + length) != (b'PK\5\6', 0, end):
            raise Refused('something lies before or behind the archive that '
                          'it claims to be')
        return start, length, count


class _Part:
    """A file in a zip: where it starts and ends, its size and sum."""
    __slots__ = 'start', 'end', 'size', 'crc'

    def __init__(self, *values):
        self.start, self.end, self.size, self.crc = values


def _wide(numbers, extra):
    """Numbers of 32 bits, or those of 64 that stand for them in an extra."""
    kind, length = unpack('<2H', extra[:4]) if len(extra) > 3 else (0, 0)
    wide = iter(
        unpack(f'<{length // 8}Q', extra[4:4 + length // 8 *
                                         8]) if kind == 1 else ())
    return [next(wide) if x == WIDE else x for x in numbers]
