"""Checks on a weights file before anything in it is read or called."""
import os
import pickle
import pickletools
import re
import zipfile
from encodings.aliases import aliases
from struct import unpack

from mmfd.errors import Refused

# Names that pickled weights are made of. PyTorch allows more, among them
# bytearray, by which a few bytes fill the memory.
OF_WEIGHTS = re.compile(
    r'builtins\.set|_codecs\.encode|collections\.(OrderedDict|Counter)'
    r'|torch\.(storage\.)?\w+Storage|torch\.(Size|device)'
    r'|torch\.(b?float|u?int|complex|q?u?int)\d\w*|torch\.(bool|strided)'
    r'|torch\._utils\._rebuild_(tensor(_v[23])?|parameter(_with_state)?)'
    r'|torch\._tensor\._rebuild_from_type_v2|torch\.serialization\._get_layout'
    r'|torch\.nn\.parameter\.(Parameter|Buffer)')
# Codecs with longer output than input: applied often, they fill the memory
GROWING = {
    f'{name}_codec'
    for name in ('base64', 'bz2', 'hex', 'quopri', 'uu', 'zlib')
}
LARGEST = 1_000_000  # parts of a tuple, with those of its parts; memo index


def check_pickle(file, also):
    """Check what the next pickle in a file would call.

    Args:
        file (BinaryIO): at the start of the pickle; left at its end.
        also (set): dotted names that are allowed besides those of weights.

    Raises:
        pickle.UnpicklingError: `GLOBAL` and a name that is not allowed.
        Refused: if it would fill the memory.
    """
    names, words = set(), set()
    for opcode, argument in _operations(file):
        if opcode.name == 'GLOBAL':
            name = argument.replace(' ', '.').replace('__builtin__',
                                                      'builtins')
            if name not in also and not OF_WEIGHTS.fullmatch(name):
                raise pickle.UnpicklingError(f'GLOBAL {name}')
            names.add(name)
        elif isinstance(argument, str) and len(argument) < 32:
            word = argument.lower().replace('-', '_')
            words.add(aliases.get(word, word))
    if '_codecs.encode' in names and words & GROWING:
        raise Refused(f'its text uses the encoding '
                      f'{min(words & GROWING)}, which no weights file uses')


def check_sizes(file):
    """Refuse the next pickle in a file if it would fill the memory."""
    for _ in _operations(file):
        pass


def _operations(file):
    """Yield the operations of a pickle and follow the sizes of its tuples.

    A tuple can hold another one twice, that one a third twice, and so on: a
    few bytes become more parts than any computer can compare or print.
    """
    stack, memo = [], {}  # sizes; None for a mark
    for opcode, argument, _ in pickletools.genops(file):
        yield opcode, argument
        if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
            index = len(memo) if argument is None else argument
            if index > LARGEST:  # a reader may make a list as long as that
                raise Refused(f'it numbers an object {index:,}')
            memo[index] = stack[-1]
        elif opcode.name in ('GET', 'BINGET', 'LONG_BINGET'):
            stack.append(memo[argument])
        else:
            size = 1 + sum(_popped(stack, opcode))
            if opcode.name.startswith('TUPLE') and size > LARGEST:
                raise Refused('it nests tuples without end')
            size = min(size, LARGEST)
            for made in opcode.stack_after:
                stack.append(None if made is pickletools.markobject else size)


def _popped(stack, opcode):
    """Pop what an operation takes from the stack; yield the sizes."""
    before = opcode.stack_before
    if pickletools.markobject in before:
        while (size := stack.pop()) is not None:
            yield size
        before = before[:before.index(pickletools.markobject)]
    for _ in before:
        yield stack.pop() or 0


def check_archive(path):
    """Refuse a zip that two readers would read differently, or that grows."""
    size = os.path.getsize(path)
    _check_directory(path, size)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = [entry.filename.lower() for entry in entries]
    if len(set(names)) < len(names):
        raise Refused('it holds two files of one name')
    stored = [entry for entry in entries if '/code/' not in entry.filename]
    if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1
           for e in stored):
        raise Refused('its tensors are compressed, which PyTorch never does')
    if sum(entry.file_size for entry in stored) > size:
        raise Refused('its parts are larger than it is')


def _check_directory(path, size):
    """Check that the zip's one table of contents ends where the file ends.

    Readers search for the table in different ways, so a file with two of them
    is another archive to each.
    """
    with open(path, 'rb') as file:
        start = file.read(4)
        file.seek(max(size - 98, 0))
        tail = file.read().rjust(98, b'\0')
    *_, length, offset, comment = unpack('<4s4H2LH', tail[76:])
    end = size - 22
    if tail[56:60] == b'PK\6\7':  # a locator, and before it 64-bit numbers
        end = size - 98
        wide_length, wide_offset = unpack('<2Q', tail[40:56])
        located = unpack('<Q', tail[64:72])[0]
        for narrow, wide in (length, wide_length), (offset, wide_offset):
            if tail[:4] != b'PK\6\6' or located != end or narrow not in (
                    wide, 0xffffffff):
                raise Refused('its table of contents contradicts itself')
        length, offset = wide_length, wide_offset
    if (start, tail[76:80], comment, offset + length) != (b'PK\3\4', b'PK\5\6',
                                                          0, end):
        raise Refused('something lies before or behind the archive that it '
                      'claims to be')


def check_not_sparse(path):
    """Refuse a file that claims far more bytes than it has on the disk."""
    status = os.stat(path)
    on_disk = getattr(status, 'st_blocks', 0) * 512  # not on Windows
    if status.st_size > 1 << 30 and 0 < on_disk < status.st_size / 10:
        raise Refused(
            f'{path} claims {status.st_size:,} bytes, of which {on_disk:,} '
            'are on the disk: it was made to fill the memory, or was damaged '
            'on its way; get it again')
