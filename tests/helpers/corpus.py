"""Hostile and broken weights, written by code: none is kept in a file."""
import functools
import io
import json
import os
import pickle
import runpy
import struct
import subprocess
import tarfile
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

CANARY = 'was_here'  # below the corpus; no file may make it
MADE = {}  # name of a file or folder -> what writes it


def made(*names):

    def register(make):
        for name in names:
            MADE[name] = functools.partial(make, *([name] * (len(names) > 1)))
        return make

    return register


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def runs_command(path):
    """What makes a file at this path when it is unpickled."""
    return Calls(os.system, f'touch {path}')


def touch(path):
    return f'touch {path.parent / CANARY}'


# --- pickles that call something ---

CALLS = {
    'system':
    lambda p: Calls(os.system, touch(p)),
    'popen':
    lambda p: Calls(subprocess.Popen, ['sh', '-c', touch(p)]),
    'eval':
    lambda p: Calls(eval, f'__import__("os").system({touch(p)!r})'),
    'exec':
    lambda p: Calls(exec, f'import os; os.system({touch(p)!r})'),
    'run_path':
    lambda p: Calls(runpy.run_path, str(p)),
    'loads':
    lambda p: Calls(pickle.loads, pickle.dumps(Calls(os.system, touch(p)))),
    'torch_load':
    lambda p: Calls(torch.load, str(p), 'cpu', None),
    'jit_load':
    lambda p: Calls(torch.jit.load, str(p)),
    'numpy_load':
    lambda p: Calls(np.load, str(p), None, True),
    'partial':
    lambda p: Calls(functools.partial, os.system, touch(p)),
    'open':
    lambda p: Calls(open, str(p.parent / CANARY), 'w'),
    'rename':
    lambda p: Calls(os.rename, str(p), str(p.parent / CANARY)),
    'getattr':
    lambda p: Calls(getattr, torch.Tensor, '__dict__'),
    'object_array':
    lambda p: np.array([Calls(os.system, touch(p))], object),
    'bytearray':
    lambda p: Calls(bytearray, 40 << 30),
    'range':
    lambda p: Calls(list, range(1 << 40)),
    'meta':
    lambda p: torch.empty(1 << 50, device='meta'),
    'sparse':
    lambda p: torch.sparse_coo_tensor([[0], [0]], [1.], (1 << 20, 1 << 20)),
    'quantized':
    lambda p: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
    'expanded':
    lambda p: torch.zeros(1).expand(1 << 40),
}
PLACES = {  # of the call in the file
    'weight': lambda call: dict(state_dict=dict(w=call, v=torch.ones(1))),
    'meta': lambda call: dict(meta=dict(x=call), w=torch.ones(1)),
    'optimizer': lambda call: dict(optimizer=[call], w=torch.ones(1)),
}


def write_call(name, path):
    call, place, _ = name.split('.')
    torch.save(PLACES[place](CALLS[call](path)), path)


for _call in CALLS:
    MADE[f'{_call}.weight.pth'] = functools.partial(write_call,
                                                    f'{_call}.weight.pth')
for _place in 'meta', 'optimizer':
    MADE[f'system.{_place}.pth'] = functools.partial(write_call,
                                                     f'system.{_place}.pth')


@made('plain.pth', 'plain.pkl', 'plain.pt', 'plain.bin', 'plain.safetensors',
      'plain.npy')
def plain(name, path):
    path.write_bytes(pickle.dumps(dict(w=Calls(os.system, touch(path)))))


@made('protocol_0.pth')
def protocol_0(path):
    path.write_bytes(pickle.dumps(Calls(os.system, touch(path)), 0))


@made('array.npy', 'array.pth')
def object_array(name, path):
    with open(path, 'wb') as file:
        np.save(
            file,
            np.array([Calls(os.system, touch(path))], object),
            allow_pickle=True)


# --- pickles written by hand ---


def text(string):
    data = string.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def name_of(module, name):
    return f'c{module}\n{name}\n'.encode()


def attribute(owner, name):
    return name_of('builtins', 'getattr') + owner + text(name) + b'\x86R'


def escape(path):
    """From `getattr`, which the host takes for harmless, to `eval`.

    `getattr.__self__` is builtins. Its `eval` is put into the place of
    `torch.nn.Parameter` among the globals of a function that may be called.
    """
    evaluate = attribute(
        attribute(name_of('builtins', 'getattr'), '__self__'), 'eval')
    parameter = name_of(
        'collections',
        'OrderedDict') + b')R}' + text('Parameter') + evaluate + b'sb'
    fake = name_of('collections',
                   'OrderedDict') + b')R}' + text('nn') + parameter + b'sb'
    rebuild = name_of('torch._utils', '_rebuild_parameter')
    poison = attribute(rebuild, '__globals__') + text('torch') + fake + b's'
    command = text(f'__import__("os").system({touch(path)!r})')
    return b'\x80\x02](' + poison + rebuild + command + b'}}\x87Re.'


def grown(path):
    """Forty times the double of 32 bytes, in hexadecimal digits."""
    word = name_of('_codecs', 'encode') + text(
        'x' * 32) + text('latin1') + b'\x86R'
    for _ in range(40):
        word = name_of('_codecs', 'encode') + word + text('hex') + b'\x86R'
    return b'\x80\x02}' + text('w') + word + b's.'


def laughing(path):
    """A key of tuples within tuples: 2^60 parts in 400 bytes."""
    word = text('ha')
    for i in range(60):
        word += b'q' + bytes([i]) + b'h' + bytes([i]) + b'\x86'
    return b'\x80\x02}' + word + text('w') + b's.'


def laughing_values(path):
    """Such tuples where they need no hash: until somebody prints them."""
    return laughing(path)[:-7].replace(b'}', b'}' + text('w'), 1) + b's.'


def nested(path):
    return b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.'


BY_HAND = {
    'escape':
    escape,
    'grown':
    grown,
    'laughing':
    laughing,
    'laughing_values':
    laughing_values,
    'nested':
    nested,
    'looped':
    lambda p: b'\x80\x02]q\0h\0a.',
    'stack_global':
    lambda p: b'\x80\x04' + b'\x8c\x02os\x8c\x06system\x93' + text(touch(
        p)) + b'\x85R.',
    'instance':
    lambda p: b'(S' + repr(touch(p)).encode() + b'\nios\nsystem\n.',
    'extension':
    lambda p: b'\x80\x02\x82\x01.',
    'persistent':
    lambda p: b'\x80\x02' + name_of('os', 'system') + b'Q.',
    'memo':
    lambda p: b'\x80\x02]r\xff\xff\xff\x7f.',
    'long_text':
    lambda p: b'\x80\x02X\xff\xff\xff\xffw.',
    'long_bytes':
    lambda p: b'\x80\x04\x8e' + b'\xff' * 7 + b'\x7fw.',
    'frame':
    lambda p: b'\x80\x04\x95' + b'\xff' * 7 + b'\x7f].',
    'underflow':
    lambda p: b'\x80\x020000R.',
    'endless':
    lambda p: b'\x80\x02' + b'N' * 1000,
    'nothing':
    lambda p: b'\x80\x02N.',
    'storage':
    lambda p: b'\x80\x02' + name_of('torch', 'FloatStorage') + b'\x8a\x06' +
    (1 << 46).to_bytes(6, 'little') + b'\x85R.',
}


def legacy(payload):
    """As PyTorch wrote before it wrote zips: five pickles in turn."""
    sizes = dict(short=2, int=4, long=4)
    machine = dict(
        protocol_version=PROTOCOL_VERSION,
        little_endian=True,
        type_sizes=sizes)
    before = [MAGIC_NUMBER, PROTOCOL_VERSION, machine]
    return b''.join(pickle.dumps(x, 2) for x in before) + payload + (
        pickle.dumps([], 2))


def zipped(payload, storages=(), more=()):
    """As PyTorch writes now."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w') as archive:
        archive.writestr('a/data.pkl', payload)
        archive.writestr('a/byteorder', 'little')
        archive.writestr('a/version', '3\n')
        for key, content in enumerate(storages):
            archive.writestr(f'a/data/{key}', content)
        for key, content in more:
            archive.writestr(key, content)
    return data.getvalue()


CODE = ('a/code/__torch__.py', 'def f(): pass')
for _kind in BY_HAND:
    MADE[f'{_kind}.legacy.pth'] = lambda path, make=BY_HAND[_kind]: (
        path.write_bytes(legacy(make(path))))
    MADE[f'{_kind}.zip.pth'] = lambda path, make=BY_HAND[_kind]: (
        path.write_bytes(zipped(make(path))))
    MADE[f'{_kind}.script.pt'] = lambda path, make=BY_HAND[_kind]: (
        path.write_bytes(zipped(make(path), more=[CODE])))

# --- archives ---


def tensor(shape=(1, ), stride=(1, ), offset=0, numbers=1, key='0'):
    """A pickled tensor of a storage."""
    size, steps = (b'(' + b''.join(map(number, x)) + b't'
                   for x in (shape, stride))
    return (name_of('torch._utils', '_rebuild_tensor_v2') + b'(' +
            stored(numbers, key) + number(offset) + size + steps + b'\x89' +
            name_of('collections', 'OrderedDict') + b')RtR')


def stored(numbers=1, key='0'):
    """The numbers of a tensor, which lie outside of a pickle."""
    return b'(' + text('storage') + name_of(
        'torch',
        'FloatStorage') + text(key) + text('cpu') + number(numbers) + b'tQ'


def number(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
    return b'\x8a' + bytes([len(data)]) + data


def weights(*tensors):
    named = b''.join(text(f'w{i}') + t for i, t in enumerate(tensors))
    return b'\x80\x02}(' + named + b'u.'


# --- pickles that take more than they are ---

ENCODE = name_of('_codecs', 'encode')
ORDERED = name_of('collections', 'OrderedDict')
COSTLY = 1 << 20  # bytes of each file, about


def encoded(codec, rounds=25):
    """32 letters, doubled by a codec under an unusual name: 1 GB of 1.2 kB."""
    word = ENCODE + text('x' * 32) + text('latin1') + b'\x86R'
    for _ in range(rounds):
        word = ENCODE + word + codec + b'\x86R'
    return b'\x80\x02}' + text('w') + word + b's.'


GROWN = {
    'blank': text('hex codec'),
    'dash': text('HEX-codec'),
    'computed': ENCODE + text('urk_pbqrp') + text('rot13') + b'\x86R',
    'utf_16': text('utf_16'),
}
for _kind, _codec in GROWN.items():
    MADE[f'grown_{_kind}.pth'] = lambda path, codec=_codec: (
        path.write_bytes(zipped(encoded(codec))))


def repeated(unit, before=b'', after=b''):
    """A list of as many units as fill the file."""
    count = COSTLY // len(unit)
    return b'\x80\x02' + before + b'](' + unit * count + b'e' + after + b'.'


def one_text(letter):
    return b'\x80\x02' + text(letter + 'x' * COSTLY) + b'.'


def colliding(first, step):
    """Keys of a dict that have one hash, modulo 2^61 - 1."""
    keys = (number(first + i * step) + b'N' for i in range(COSTLY // 12))
    return b'\x80\x02}(' + b''.join(keys) + b'u.'


TENSOR_CALL = name_of('torch._utils', '_rebuild_tensor_v2')
BUILT = {
    'none':
    lambda: repeated(b'N'),
    'lists':
    lambda: repeated(b']'),
    'dicts':
    lambda: repeated(b'}'),
    'dicts_of_one':
    lambda: repeated(b'}NNs'),
    'lists_of_one':
    lambda: repeated(b']Na'),
    'marks':
    lambda: b'\x80\x02' + b'(' * COSTLY + b'.',
    'tuples':
    lambda: repeated(b'N\x85'),
    'tuples_of_three':
    lambda: repeated(b'NNN\x87'),
    'integers':
    lambda: repeated(b'M\xff\xff'),
    'long_integers':
    lambda: repeated(b'\x8a\xff' + b'\x7f' * 255),
    'fractions':
    lambda: repeated(b'G' + bytes(8)),
    'texts':
    lambda: repeated(text('')),
    'letters_of_four_bytes':
    lambda: one_text('\U0001f600'),
    'ordered_dicts':
    lambda: repeated(b'h\0)R', ORDERED + b'q\0'),
    'stubs':
    lambda: repeated(b'h\0)\x81',
                     name_of('argparse', 'Namespace') + b'q\0'),
    'sizes':
    lambda: repeated(b'h\0h\1R',
                     name_of('torch', 'Size') + b'q\0)\x85q\1'),
    'encoded':
    lambda: repeated(
        b'h\0h\1h\2\x86R', ENCODE + b'q\0' + text('x' * 9999) + b'q\1' + text(
            'latin1') + b'q\2'),
    'colliding':
    lambda: colliding((1 << 61) - 1, (1 << 61) - 1),
    'colliding_small':
    lambda: colliding(1 << 40, 1 << 40),
    'named':
    lambda: repeated(b'ctorch\nSize\n'),
    'named_by_long_texts':
    lambda: repeated(
        b'h\0h\1\x93',
        text('timm') + b'q\0' + text('x' * (COSTLY // 2)) + b'q\1'),
    'memoized':
    lambda: repeated(b'N\x94'),
    'sets':
    lambda: repeated(b'\x8f'),
    'frozen_sets':
    lambda: repeated(b'(\x91'),
    'short_texts':
    lambda: repeated(b'\x8c\0'),
    'bytes':
    lambda: repeated(b'C\0'),
    'colliding_tuples':
    lambda: b'\x80\x02}(' + b''.join(
        number((1 << 60) + i) + number(i) + b'\x86N'
        for i in range(COSTLY // 20)) + b'u.',
    'dicts_with_factories':
    lambda: repeated(
        b'h\0h\1R',
        name_of('collections', 'defaultdict') + b'q\0' + name_of(
            'builtins', 'list') + b'\x85q\1'),
    'dicts_of_pairs':
    lambda: repeated(
        b'h\0h\1R', ORDERED + b'q\0](' + b''.join(
            number(i) + b'N\x86' for i in range(9999)) + b'e\x85q\1'),
    'queues':
    lambda: repeated(b'h\0)R',
                     name_of('collections', 'deque') + b'q\0'),
    'remembered':
    lambda: repeated(b'Nq\0'),
}
for _kind, _payload in BUILT.items():
    MADE[f'many_{_kind}.pth'] = lambda path, p=_payload: (
        path.write_bytes(zipped(p())))
MADE['many_lists.legacy.pth'] = lambda path: (
    path.write_bytes(legacy(BUILT['lists']())))


def calls(storage, *arguments):
    """One tensor, built again and again of what is remembered."""
    return repeated(
        b'h\0h\1R',
        TENSOR_CALL + b'q\0(' + storage + b''.join(arguments) + b'tq\1')


LIES = {
    'many_numbers': tensor((1 << 34, )),
    'many_stored': tensor((1 << 34, ), numbers=1 << 34),
    'far': tensor(offset=1 << 40),
    'before': tensor(offset=-8),
    'negative': tensor((-1, )),
    'backwards': tensor((2, ), (-1, )),
    'overflow': tensor((1 << 40, 1 << 40), (1, 1)),
    'empty_overflow': tensor((0, 1 << 62, 4), (1, 1, 1)),
    'beyond_64_bits': tensor((1 << 70, )),
    'elsewhere': tensor(key='../../etc/passwd'),
    'missing': tensor(key='9'),
    'steps': tensor((2, 2), (0, 0)),
    'axes': tensor((1, ) * 100, (1, ) * 100),
}
for _kind, _lie in LIES.items():
    for _suffix, _more in ('zip.pth', ()), ('script.pt', (CODE, )):
        MADE[f'{_kind}.{_suffix}'] = lambda path, lie=_lie, more=_more: (
            path.write_bytes(zipped(weights(lie), [bytes(4)], more)))


@made('many_tensors.pth')
def many_tensors(path):
    """One tensor of a number, built a million times."""
    payload = calls(stored(), b'K\0', b'K\1\x85', b'K\1\x85')
    path.write_bytes(zipped(payload, [bytes(4)]))


@made('queue_of_numbers.pth')
def queue_of_numbers(path):
    """A tensor that would be a list of four million tensors."""
    queue = name_of('collections', 'deque') + tensor((1 << 22, ),
                                                     (0, )) + b'\x85R'
    path.write_bytes(
        zipped(b'\x80\x02}' + text('w') + queue + b's.', [bytes(4)]))


@made('many_expanded.pth')
def many_expanded(path):
    """A number that stands for 4 GB, and a million of those."""
    payload = calls(stored(), b'K\0', number(1 << 30) + b'\x85', b'K\0\x85')
    path.write_bytes(zipped(payload, [bytes(4)]))


@made('memory_that_nobody_wrote.pth')
def memory_that_nobody_wrote(path):
    """A storage that is built by a call, of 8 GB as the memory was."""
    storage = name_of('torch.storage', 'UntypedStorage') + number(1 << 33)
    path.write_bytes(zipped(b'\x80\x02}' + text('w') + storage + b'\x85Rs.'))


@made('memory_of_a_tensor.pth')
def memory_of_a_tensor(path):
    """A tensor that is built by its class instead of from a storage."""
    storage = name_of('torch', 'Tensor') + number(1 << 33)
    path.write_bytes(zipped(b'\x80\x02}' + text('w') + storage + b'\x85Rs.'))


@made('memory_claimed.legacy.pth')
def memory_claimed(path):
    """Storages of 1 TB that lie behind the end of the file."""
    path.write_bytes(legacy(weights(tensor(numbers=1 << 38))))


@made('many_files.pth')
def many_files(path):
    """A zip of a table of contents and little else."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w') as archive:
        archive.writestr('a/data.pkl', weights(tensor()))
        for i in range(COSTLY // 100):
            archive.writestr(f'a/{i}', b'')
    path.write_bytes(data.getvalue())


def read_otherwise(data):
    """A zip whose end Python's zipfile does not find, and PyTorch does."""
    return data[:-2] + struct.pack('<H', 0xffff) + bytes(0xffff) + bytes(9)


@made('polyglot_far.pth')
def polyglot_far(path):
    content = zipped(b'\x80\x02}' + text('w') +
                     name_of('builtins', 'bytearray') + number(1 << 30) +
                     b'\x85Rs.')
    path.write_bytes(read_otherwise(content))


@made('polyglot_old_first.pth')
def polyglot_old_first(path):
    """Weights of the older format, behind them an archive."""
    data = io.BytesIO()
    torch.save(
        dict(w=torch.ones(1)), data, _use_new_zipfile_serialization=False)
    path.write_bytes(data.getvalue() + honest())


@made('local_name.pth')
def local_name(path):
    """An entry that has one name in the table and another where it lies."""
    path.write_bytes(honest().replace(b'/data/0', b'/data/1', 1))


@made('imaginary.pth')
def imaginary(path):
    torch.save({'a.weight': torch.ones(2, dtype=torch.complex64)}, path)


@made('boolean.pth', 'boolean.safetensors')
def boolean(name, path):
    tensors = {'a.weight': torch.ones(2, dtype=torch.bool)}
    save_file(tensors, path) if 'safe' in name else torch.save(tensors, path)


@made('eight_bits.pth', 'eight_bits.safetensors')
def eight_bits(name, path):
    tensors = {'a.bias': torch.ones(2, dtype=torch.int8)}
    save_file(tensors, path) if 'safe' in name else torch.save(tensors, path)


@made('long_name.pth')
def long_name(path):
    torch.save({'x' * COSTLY: torch.ones(1)}, path)


@made('shared.pth')
def shared(path):
    """A thousand tensors in the bytes of one."""
    one = torch.zeros(1 << 18)
    torch.save({f'w{i}': one[:] for i in range(1000)}, path)


def honest(path=None):
    data = io.BytesIO()
    torch.save(dict(w=torch.arange(100.)), data)
    return data.getvalue()


@made('bomb.pth')
def bomb(path):
    """400 MB of zeros in 2 MB."""
    with zipfile.ZipFile(
            path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr('a/data.pkl', weights(tensor(numbers=100 << 20)))
        archive.writestr('a/version', '3\n')
        with archive.open('a/data/0', 'w') as file:
            for _ in range(100):
                file.write(bytes(4 << 20))


@made('bomb_of_pickle.pt')
def bomb_of_pickle(path):
    with zipfile.ZipFile(
            path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr('a/data.pkl', b'N' * (300 << 20))
        archive.writestr(*CODE)


@made('overlap.pth')
def overlap(path):
    """A hundred entries whose data is the same megabyte."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w') as archive:
        archive.writestr('a/data.pkl', weights(tensor()))
        archive.writestr('a/data/0', bytes(1 << 20))
        first = archive.getinfo('a/data/0')
        for i in range(1, 100):
            again = zipfile.ZipInfo(f'a/data/{i}')
            again.header_offset, again.CRC = first.header_offset, first.CRC
            again.file_size = again.compress_size = 1 << 20
            archive.filelist.append(again)
    path.write_bytes(data.getvalue())


ENTRIES = {
    'twice': [('a/data/0', bytes(4))],
    'twice_but_for_case': [('A/DATA/0', bytes(4))],
}
for _kind, _more in ENTRIES.items():
    MADE[f'{_kind}.pth'] = lambda path, more=_more: path.write_bytes(
        zipped(weights(tensor()), [bytes(4)], more))
TRAVERSAL = {
    'up': '../../was_here',
    'root': '/tmp/was_here',
    'windows': '..\\was_here'
}
for _kind, _entry in TRAVERSAL.items():
    MADE[f'traversal_{_kind}.pth'] = lambda path, entry=_entry: (
        path.write_bytes(zipped(escape(path), more=[(entry, b'x')])))


@made('foreign_root.pth')
def foreign_root(path):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('../data.pkl', escape(path))


@made('encrypted.pth')
def encrypted(path):
    data = bytearray(honest())
    data[data.rindex(b'PK\1\2') + 8] |= 1
    path.write_bytes(data)


@made('prefixed.pth')
def prefixed(path):
    path.write_bytes(b'#!/bin/sh\n' + honest())


@made('commented.pth')
def commented(path):
    data = bytearray(honest())
    data[-2:] = struct.pack('<H', 5)
    path.write_bytes(data + b'hello')


@made('two_directories.pth')
def two_directories(path):
    path.write_bytes(zipped(escape(path)) + honest())


@made('polyglot.pth')
def polyglot(path):
    """To one reader an archive without harm, to the other an old pickle."""
    path.write_bytes(
        legacy(escape(path)) + zipped(weights(), [bytes(4)], [CODE]))


@made('wide_locator.pth')
def wide_locator(path):
    """A table of contents of 64 bits beside one of 32, of another archive."""
    data = honest()
    locator = struct.pack('<4sLQL', b'PK\6\7', 0, 4, 1)
    path.write_bytes(data[:-22] + locator + data[-22:])


@made('shifted_directory.pth')
def shifted_directory(path):
    data = bytearray(honest())
    offset = struct.unpack('<L', data[-6:-2])[0]
    data[-6:-2] = struct.pack('<L', offset - 7)
    path.write_bytes(data)


@made('half.pth')
def half(path):
    data = honest()
    path.write_bytes(data[:len(data) // 2])


# --- TorchScript ---


def attributes(**values):
    """A module of an archive: its class and its attributes, by name."""
    named = b''.join(text(k) + v for k, v in values.items())
    return name_of('__torch__', 'M') + b')\x81}(' + named + b'ub'


@made('module_cycle.pt')
def module_cycle(path):
    payload = (b'\x80\x02' + name_of('__torch__', 'M') + b')\x81q\0}' +
               text('me') + b'h\0sb.')
    path.write_bytes(zipped(payload, more=[CODE]))


@made('module_tree.pt')
def module_tree(path):
    """Each module holds the next one twice: 2^60 modules."""
    payload = attributes()
    for i in range(60):
        payload += b'q' + bytes([i]) + attributes(
            a=b'h' + bytes([i]), b=b'h' + bytes([i]))
    payload = b'\x80\x02(' + payload + b't.'
    path.write_bytes(zipped(payload, more=[CODE]))


@made('device_of_tuples.pt')
def device_of_tuples(path):
    word = text('ha')
    for i in range(60):
        word += b'q' + bytes([i]) + b'h' + bytes([i]) + b'\x86'
    payload = name_of('torch', 'device') + word + b'\x85R.'
    path.write_bytes(zipped(b'\x80\x02' + payload, more=[CODE]))


@made('no_module.pt')
def no_module(path):
    path.write_bytes(zipped(weights(), more=[CODE]))


# --- safetensors ---


def safetensors(header, data=bytes(4), length=None):
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    length = len(header) if length is None else length
    return struct.pack('<Q', length) + header + data


def entry(dtype='F32', shape=(1, ), start=0, end=4):
    return dict(dtype=dtype, shape=shape, data_offsets=[start, end])


HEADERS = {
    'longer_than_the_file': (dict(w=entry()), 1000),
    'longer_than_64_bits': (dict(w=entry()), (1 << 64) - 1),
    'no_json': (b'{"w": ', None),
    'no_utf8': (b'{"\xff": 1}', None),
    'deep': (b'[' * 100_000, None),
    'list': ([1], None),
    'larger_type': (dict(w=entry('F64')), None),
    'larger_shape': (dict(w=entry(shape=[1 << 40])), None),
    'shape_that_overflows': (dict(w=entry(shape=[1 << 40, 1 << 40])), None),
    'negative_shape': (dict(w=entry(shape=[-1])), None),
    'unknown_type': (dict(w=entry('OBJECT')), None),
    'backwards': (dict(w=entry(start=4, end=0)), None),
    'beyond': (dict(w=entry(start=1 << 40, end=(1 << 40) + 4)), None),
    'overlapping': (dict(w=entry(), v=entry()), None),
    'gap': (dict(w=entry(start=2, end=4, dtype='F16')), None),
    'twice':
    (b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
     b'"w":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}extra', None),
    'metadata_of_numbers': (dict(__metadata__=dict(a=1), w=entry()), None),
    'nothing': ({}, None),
}
for _kind, (_header, _length) in HEADERS.items():
    MADE[f'{_kind}.safetensors'] = lambda path, h=_header, n=_length: (
        path.write_bytes(safetensors(h, length=n)))


@made('many_entries.safetensors')
def many_entries(path):
    """Tensors of no numbers."""
    empty = '"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    named = ','.join(empty % i for i in range(COSTLY // 56))
    path.write_bytes(safetensors(f'{{{named}}}'.encode(), b''))


@made('many_facts.safetensors')
def many_facts(path):
    facts = ','.join(f'"{i:x}":""' for i in range(COSTLY // 10))
    path.write_bytes(
        safetensors(f'{{"__metadata__":{{{facts}}}}}'.encode(), b''))


@made('sparse.safetensors')
def sparse_file(path):
    """A terabyte, of which a page is on the disk."""
    size = 1 << 40
    path.write_bytes(safetensors(dict(w=entry(shape=[size // 4], end=size))))
    os.truncate(path, path.stat().st_size - 4 + size)


@made('sparse.pth')
def sparse_zip(path):
    path.write_bytes(b'PK\3\4')
    os.truncate(path, 1 << 40)


# --- folders and lists of shards ---


def shards(path, file='a.safetensors', content=None):
    path.mkdir()
    save_file(dict(w=torch.ones(1)), path / 'a.safetensors')
    listed = content or json.dumps(dict(weight_map=dict(w=file)))
    (path / 'model.safetensors.index.json').write_text(listed)
    return path


SHARDS = {
    'up': '../honest.safetensors',
    'root': '/etc/passwd',
    'itself': 'model.safetensors.index.json',
    'long': 'x' * 5000 + '.safetensors',
    'zero': 'a\0.safetensors',
    'surrogate': '\ud800.safetensors',
    'folder': '.safetensors',
}
for _kind, _file in SHARDS.items():
    MADE[f'shards_{_kind}'] = lambda path, file=_file: shards(path, file)
TWICE = ','.join(f'"w{i % 20_000}": "a.safetensors"' for i in range(40_000))
for _kind, _text in dict(
        lists='{"weight_map": [' + '[],' * (COSTLY // 3) + '[]]}',
        many_twice=f'{{"weight_map": {{{TWICE}}}}}',
        deep='[' * 100_000,
        twice='{"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}}',
        nothing='{"weight_map": {}}').items():
    MADE[f'shards_{_kind}'] = lambda path, t=_text: shards(path, content=t)


@made('shards_sparse')
def shards_sparse(path):
    os.truncate(shards(path) / 'model.safetensors.index.json', 1 << 40)


@made('shards_linked')
def shards_linked(path):
    """A link out of the folder, to what is no weights file."""
    shards(path)
    (path / 'a.safetensors').unlink()
    (path / 'a.safetensors').symlink_to('/etc/passwd')


@made('shards_of_pickles')
def shards_of_pickles(path):
    path.mkdir()
    (path / 'pytorch_model.bin.index.json').write_text(
        json.dumps(dict(weight_map=dict(w='a.bin'))))
    (path / 'a.bin').write_bytes(legacy(escape(path)))


@made('shards_pipe')
def shards_pipe(path):
    shards(path)
    (path / 'a.safetensors').unlink()
    os.mkfifo(path / 'a.safetensors')


# --- no weights at all ---


@made('link_to_itself.pth')
def link_to_itself(path):
    path.symlink_to(path)


@made('device.pth')
def device(path):
    path.symlink_to('/dev/zero')


@made('pipe.pth')
def pipe(path):
    os.mkfifo(path)


@made('tar.pth')
def tar(path):
    with tarfile.open(path, 'w') as archive:
        entry = tarfile.TarInfo(f'../{CANARY}')
        archive.addfile(entry, io.BytesIO())


@made('integer_names.pth')
def integer_names(path):
    torch.save({1: torch.ones(1), (2, ): torch.ones(1)}, path)


@made('list.pth')
def list_of_tensors(path):
    torch.save([torch.ones(1)], path)


@made('no_tensor.pth')
def no_tensor(path):
    torch.save(dict(state_dict=dict(w=1)), path)


def write(folder):
    """All of them; the names."""
    for name, make in MADE.items():
        make(folder / name)
    return sorted(MADE)
