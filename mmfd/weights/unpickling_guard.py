"""What a file would have its reader do, looked at before it is read."""
import os
import pickle
import pickletools
import re
import zipfile
from encodings.aliases import aliases
from struct import unpack

from mmfd.errors import Refused

# What pickled weights are made of. PyTorch also allows names by which a few
# bytes fill the memory, such as bytearray.
OF_WEIGHTS = re.compile(
    r'builtins\.set|_codecs\.encode|collections\.(OrderedDict|Counter)'
    r'|torch\.(storage\.)?\w+Storage|torch\.(Size|device)'
    r'|torch\.(b?float|u?int|complex|q?u?int)\d\w*|torch\.(bool|strided)'
    r'|torch\._utils\._rebuild_(tensor(_v[23])?|parameter(_with_state)?)'
    r'|torch\._tensor\._rebuild_from_type_v2|torch\.serialization\._get_layout'
    r'|torch\.nn\.parameter\.(Parameter|Buffer)')
# By one of these, applied again and again, a few bytes become as many as
# there is memory for.
GROWING = {
    'base64_codec', 'bz2_codec', 'hex_codec', 'quopri_codec', 'uu_codec',
    'zlib_codec'
}
LARGEST_TUPLE = 1_000_000  # parts, those of its parts included


def check_pickle(file, also):
    """Refuse what the next pickle in a file would call.

    Args:
        file (BinaryIO): at the pickle's start; left behind its end.
        also (set): dotted names that are allowed besides those of weights.

    Raises:
        pickle.UnpicklingError: with `GLOBAL` and the name.
        Refused: if it is none, or small and made to grow.
    """
    names, words = set(), set()
    for opcode, argument in _followed(file):
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
        raise Refused(f'its text is in {min(words & GROWING)}, which '
                      'weights never are')


def check_tuples(file):
    """Refuse tuples of tuples that are endless to compare or to print."""
    for _ in _followed(file):
        pass


def _followed(file):
    """The operations of a pickle, and the sizes of what they would build.

    A tuple can hold another one twice, that one a third twice, and so on: a
    few bytes, and more parts than any computer can count.
    """
    stack, memo = [], {}
    for opcode, argument, _ in pickletools.genops(file):
        yield opcode, argument
        if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif opcode.name in ('GET', 'BINGET', 'LONG_BINGET'):
            stack.append(memo[argument])
        else:
            size = 1 + sum(_popped(stack, opcode))
            if opcode.name.startswith('TUPLE') and size > LARGEST_TUPLE:
                raise Refused('it nests tuples without end')
            size = min(size, LARGEST_TUPLE)
            for made in opcode.stack_after:
                stack.append(None if made is pickletools.markobject else size)


def _popped(stack, opcode):
    """Take off a stack what an operation takes: the sizes."""
    before = opcode.stack_before
    if pickletools.markobject in before:
        while (size := stack.pop()) is not None:
            yield size
        before = before[:before.index(pickletools.markobject)]
    for _ in before:
        yield stack.pop() or 0


def check_archive(path):
    """Refuse a zip that two readers would read differently, or that grows.

    Raises:
        Refused: with what is wrong.
    """
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
        raise Refused('its tensors are compressed, which PyTorch never '
                      'does')
    if sum(entry.file_size for entry in stored) > size:
        raise Refused('its parts are larger than it is')


def _check_directory(path, size):
    """The table of contents is to end where the file does, and be its only.

    Readers look for it in different ways, and add a stranger's zip to the end
    of something else if they find that.
    """
    with open(path, 'rb') as file:
        start = file.read(4)
        file.seek(max(size - 98, 0))
        tail = file.read().rjust(98, b'\0')
    *_, length, offset, comment = unpack('<4s4H2LH', tail[76:])
    end = size - 22
    if tail[56:60] == b'PK\6\7':  # a locator of 64 bits, and before it that
        end = size - 98
        wide_length, wide_offset = unpack('<2Q', tail[40:56])
        told = unpack('<Q', tail[64:72])[0]
        for narrow, wide in (length, wide_length), (offset, wide_offset):
            if tail[:4] != b'PK\6\6' or told != end or narrow not in (
                    wide, 0xffffffff):
                raise Refused('its table of contents contradicts itself')
        length, offset = wide_length, wide_offset
    if (start, tail[76:80], comment, offset + length) != (b'PK\3\4', b'PK\5\6',
                                                          0, end):
        raise Refused('something lies before or behind the archive that '
                      'it claims to be')


def check_stored(path):
    """Refuse a file that claims to be far larger than what is on the disk."""
    told = os.stat(path)
    on_disk = told.st_blocks * 512
    if told.st_size > 1 << 30 and 0 < on_disk < told.st_size / 10:
        raise Refused(
            f'{path} claims {told.st_size:,} bytes, of which {on_disk:,} are '
            'on the disk: it was made to fill the memory, or was damaged on '
            'its way; get it again')
