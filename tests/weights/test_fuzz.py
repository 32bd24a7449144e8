"""Random files and weights: read, or refused in a message.

    PYTHONPATH=tests python tests/weights/test_fuzz.py SECONDS

runs it for longer than `make test-full` does.
"""
import io
import json
import os
import pickle
import pickletools
import re
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest
import torch
from helpers import corpus
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from safetensors.torch import save

from mmfd.errors import Refused
from mmfd.weights import checkpoints, convert
from mmfd.weights.carried_config import carried_config
from mmfd.weights.mmengine_reader import load_for_mmengine

LARGEST = 64 << 20  # bytes of tensors in a file of a few kB


@cache
def honest():
    """Weights in each of the formats, as bytes; once, since old files hold
    addresses of memory."""
    tensors = dict(w=torch.arange(6.).view(2, 3), v=torch.ones(3).half())
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(dict(state_dict=tensors, meta=dict(epoch=1)), new)
    torch.save(tensors, old, _use_new_zipfile_serialization=False)
    script = corpus.zipped(
        b'\x80\x02' + corpus.attributes(w=corpus.tensor()) + b'.', [bytes(4)],
        [corpus.CODE])
    return [('.pth', new.getvalue()), ('.pth', old.getvalue()),
            ('.pt', script), ('.safetensors', save(tensors))]


@st.composite
def damaged(draw):
    """A file of weights with some of its bytes changed, lost or repeated."""
    suffix, data = draw(st.sampled_from(honest()))
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(at + draw(st.integers(0, 16)), len(data))
        data[at:end] = draw(
            st.one_of(
                st.binary(max_size=16), st.just(bytes(data[end:end + 40]))))
    return suffix, bytes(data)


PARTS = [
    b']', b'}', b')', b'(', b'N', b'\x88', b'K\7', b'q\0', b'h\0', b'\x85',
    b'\x86', b'\x87', b't', b'l', b'R', b'b', b's', b'u', b'a', b'e', b'Q',
    b'\x81', b'0', b'2',
    corpus.text('w'),
    corpus.text('storage'),
    corpus.text('latin1'),
    corpus.text('__dict__'),
    corpus.number(1 << 40),
    corpus.number(-1),
    corpus.tensor(), *[
        corpus.name_of(*name.rsplit('.', 1)) for name in
        ('os.system', 'builtins.getattr', 'builtins.eval', 'builtins.set',
         '_codecs.encode', 'collections.OrderedDict', 'torch.FloatStorage',
         'torch.float32', 'torch.Size', 'torch.device', '__torch__.M',
         'torch._utils._rebuild_tensor_v2', 'torch._utils._rebuild_parameter',
         'torch._tensor._rebuild_from_type_v2', 'numpy.dtype',
         'mmengine.logging.history_buffer.HistoryBuffer')
    ]
]


@st.composite
def pickled(draw):
    """Operations of pickles in any order, as each of the formats has them."""
    parts = draw(st.lists(st.sampled_from(PARTS), max_size=30))
    payload = b'\x80\x02' + b''.join(parts) + b'.'
    return draw(
        st.sampled_from([('.pth', corpus.legacy(payload)),
                         ('.pth', corpus.zipped(payload, [bytes(4)])),
                         ('.pt',
                          corpus.zipped(payload, [bytes(4)], [corpus.CODE]))]))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary()
    | st.text(max_size=8) | st.sampled_from(
        [torch.ones(2), torch.float16,
         torch.Size([2]),
         torch.device('cpu')]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(max_size=8) | st.integers(), inner, max_size=3) | st.tuples(
            inner, inner),
    max_leaves=8)
RESUMED = ['meta', 'state_dict', 'optimizer', 'message_hub', 'epoch', 'iter']


@st.composite
def mutated(draw):
    """A checkpoint of any content; in its pickle operations are changed."""
    content, data = draw(st.dictionaries(st.sampled_from(RESUMED),
                                         VALUES)), io.BytesIO()
    torch.save(content, data, _use_new_zipfile_serialization=False)
    data = data.getvalue()
    data = data[len(corpus.legacy(b'')) - len(pickle.dumps([], 2)):]
    end = max(at for op, _, at in pickletools.genops(data)) + 1
    starts = [at for _, _, at in pickletools.genops(data[:end])]
    pieces = [data[at:to] for at, to in zip(starts, [*starts[1:], end])][1:-1]
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(pieces)))
        pieces[at:at + draw(st.integers(0, 2))] = draw(
            st.lists(st.sampled_from(PARTS + pieces), max_size=3))
    payload = b'\x80\x02' + b''.join(pieces) + b'.'
    form = draw(st.sampled_from(['older', 'zip', 'script']))
    if form == 'older':
        return '.pth', corpus.legacy(payload)
    more = [corpus.CODE] if form == 'script' else []
    return '.pth', corpus.zipped(payload, [bytes(8)], more)


@st.composite
def rezipped(draw):
    """An archive whose numbers and names lie: of sizes, places, lengths."""
    data = bytearray(honest()[0][1])
    marks = [m.start() for m in re.finditer(rb'PK[\1-\10][\1-\10]', data)]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from(marks)) + draw(st.integers(0, 60))
        value = draw(st.sampled_from([0, 1, 8, 22, 0xffff, 0xffffffff]))
        length = draw(st.sampled_from([1, 2, 4]))
        data[at:at + length] = value.to_bytes(4, 'little')[:length]
    return '.pth', bytes(data)


INTEGERS = st.sampled_from([0, 1, 4, 8, -1, 1 << 31, 1 << 62, 1 << 64])
ENTRY = st.fixed_dictionaries(
    dict(
        dtype=st.sampled_from(['F32', 'F64', 'BF16', 'I8', 'BOOL', 'X', 7]),
        shape=st.lists(INTEGERS, max_size=3),
        data_offsets=st.lists(INTEGERS, min_size=1, max_size=3)))
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(max_size=8), inner, max_size=3),
    max_leaves=8)
HEADER = st.dictionaries(
    st.sampled_from(['w', 'v', '__metadata__', '']), ENTRY | JSON, max_size=3)


@st.composite
def headed(draw):
    """A header of safetensors that may lie."""
    return '.safetensors', corpus.safetensors(
        draw(HEADER), draw(st.binary(max_size=16)))


def read(file):
    """As a tool does: tensors, or one message with the file's name."""
    suffix, data = file
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f'weights{suffix}')
        path.write_bytes(data)
        try:
            content = load_for_mmengine(path)  # as `--resume` does
            str(content), content == content
            tensors = checkpoints.state_dict_of(content, path)
        except Refused as error:
            assert path.name in str(error) and len(str(error)) < 2000
        else:
            assert sum(t.nbytes for t in tensors.values()) <= LARGEST
            assert all(isinstance(name, str) for name in tensors)
            for kind in convert.CONVERTERS:
                converted((kind, tensors))
        assert os.listdir(folder) == [path.name]


NAMES = [
    'cls_token', 'pos_embed', 'visual.class_embedding', 'head.weight',
    'visual.positional_embedding', 'patch_embed.proj.weight', 'norm.weight',
    'blocks.0.norm1.weight', 'blocks.0.attn.qkv.weight', 'fc_norm.weight',
    'layers.0.blocks.0.norm1.weight', 'layers.0.downsample.reduction.weight',
    'layers.1.downsample.norm.weight', 'patch_embed.norm.weight',
    'layers.0.blocks.0.attn.relative_position_bias_table',
    'layers.0.rel_pos_bias.rpe_mlp.0.weight', 'encoder.cls_token',
    'vision_model.embeddings.class_embedding', 'visual.conv1.weight',
    'vision_model.encoder.layers.0.self_attn.q_proj.weight',
    'vision_model.encoder.layers.0.self_attn.k_proj.weight',
    'vision_model.encoder.layers.0.self_attn.v_proj.weight', 'x\x1b[2J'
]
TENSOR = st.builds(
    lambda shape, dtype: torch.ones(shape, dtype=dtype),
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool]))
WEIGHTS = st.tuples(
    st.sampled_from(sorted(convert.CONVERTERS)),
    st.dictionaries(st.sampled_from(NAMES), TENSOR, max_size=12))


def converted(kind_and_weights):
    kind, weights = kind_and_weights
    try:
        result = convert.convert(kind, weights)
    except Refused:
        return
    assert all(isinstance(value, torch.Tensor) for value in result.values())


CONFIG = st.dictionaries(
    st.sampled_from(['type', 'arch', 'img_size', 'patch_size', '_scope_']),
    st.sampled_from([
        'mmfd.StudentViT', 'mmpretrain.BEiTViT', 'base', 'os.system', '', -1,
        0, 16, 224, 1 << 40, [], [-1, 0],
        dict(embed_dims=0, num_layers=10**9, num_heads=0)
    ]) | JSON,
    max_size=5)


def carried(config):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'weights.pth')
        meta = dict(model=json.dumps(dict(backbone=config)))
        torch.save(dict(meta=meta, w=torch.ones(1)), path)
        try:
            carried_config(path, to_build=True)
        except Refused as error:
            assert path.name in str(error)


TARGETS = {
    'damaged': (damaged(), read),
    'pickled': (pickled(), read),
    'mutated': (mutated(), read),
    'rezipped': (rezipped(), read),
    'headed': (headed(), read),
    'converted': (WEIGHTS, converted),
    'carried': (CONFIG, carried),
}
STARTED = []  # processes and connections


@pytest.fixture(scope='module', autouse=True)
def watched():
    sys.addaudithook(note)


def note(event, args):
    if event in ('os.system', 'os.exec', 'os.posix_spawn', 'subprocess.Popen',
                 'socket.connect'):
        STARTED.append((event, args))


def fuzz(target, seconds):
    """As many examples as there is time for; how many."""
    strategy, check = TARGETS[target]
    end, count = time.monotonic() + seconds, [0]

    def example(value):
        count[0] += 1
        check(value)
        assert STARTED == []

    options = settings(
        max_examples=60,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck))
    STARTED.clear()
    chapter = 0
    while time.monotonic() < end:
        seed(chapter)(options(given(strategy)(example)))()
        chapter += 1
    return count[0]


@pytest.mark.parametrize('target', TARGETS)
def test_random_files_are_read_or_refused(target):
    assert fuzz(target, seconds=0.1) >= 50


@pytest.mark.full
@pytest.mark.parametrize('target', TARGETS)
def test_random_files_of_a_minute_are_read_or_refused(target):
    assert fuzz(target, seconds=60 / len(TARGETS)) >= 50


if __name__ == '__main__':
    sys.addaudithook(note)
    for each in TARGETS:
        print(each, fuzz(each, float(sys.argv[1]) / len(TARGETS)), flush=True)
