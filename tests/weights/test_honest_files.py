"""Files as people have them: read as PyTorch reads them."""
import argparse
import collections
import datetime
import decimal
import fractions
import io
import os
import types
import uuid

import numpy as np
import pytest
import torch
from helpers.honest_files import KINDS, NO_WEIGHTS, ORIGINS, shared
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from torch import nn
from torch.utils import serialization

from mmfd.errors import Refused
from mmfd.weights import checkpoints, file_kinds
from mmfd.weights.pickled_names import Stub

FORMS = dict(zip=True, older=False)
STUBS = (np.ndarray, np.generic, complex, types.SimpleNamespace, datetime.date,
         datetime.timedelta, slice, decimal.Decimal, fractions.Fraction,
         uuid.UUID, type(torch.__version__))


def assert_same(ours, theirs):
    """Equal, but for classes that weights do without."""
    if isinstance(theirs, torch.Tensor):
        assert type(ours) is torch.Tensor and ours.dtype == theirs.dtype
        assert ours.stride() == theirs.stride()
        assert torch.equal(ours.float(), theirs.detach().float())
    elif isinstance(theirs, dict):
        assert [*ours] == [*theirs]
        for key in theirs:
            assert_same(ours[key], theirs[key])
        assert getattr(ours, '_metadata',
                       None) == getattr(theirs, '_metadata', None)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for x, y in zip(ours, theirs):
            assert_same(x, y)
    elif isinstance(theirs, (argparse.Namespace, HistoryBuffer)):
        assert isinstance(ours, Stub) and isinstance(ours.state, dict)
    elif isinstance(theirs, STUBS):
        assert isinstance(ours, Stub)
    elif isinstance(theirs, (set, frozenset)):
        assert {*ours} == theirs
    elif isinstance(theirs, (bytearray, collections.deque)):
        assert ours == type(ours)(theirs)
    elif isinstance(theirs, torch.device):
        assert ours == str(theirs)
    else:
        assert type(ours) is type(theirs) and ours == theirs


@pytest.mark.parametrize(
    'kind, form',
    # PyTorch does not read all types of numbers in its older format
    [(k, f) for k in KINDS for f in FORMS if (k, f) != ('dtypes', 'older')])
def test_file_is_read_as_pytorch_reads_it(tmp_path, monkeypatch, kind, form):
    # a run in this process may have forbidden PyTorch's own reader
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    path = tmp_path / f'{kind}.pth'
    torch.save(KINDS[kind](), path, _use_new_zipfile_serialization=FORMS[form])
    theirs = torch.load(path, weights_only=False)
    for mapped in False, True:
        with serialization.config.patch('load.mmap', mapped):
            assert_same(checkpoints.load(path), theirs)
    assert checkpoints.state_dict_of(checkpoints.load(path), path)


def test_forty_origins_are_known():
    assert len(ORIGINS) >= 40


@pytest.mark.parametrize('origin', ORIGINS)
def test_weights_of_a_usual_origin_are_read(tmp_path, origin):
    path, expected = ORIGINS[origin](tmp_path / 'weights.bin')
    content = checkpoints.load(path)
    for key in 'module', 'model':  # DeepSpeed's key, and fairseq's
        content = content.get(key, content)
    tensors = checkpoints.state_dict_of(content, path)
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


@pytest.mark.parametrize('kind', NO_WEIGHTS)
def test_what_holds_no_weights_is_called_by_its_name(tmp_path, kind):
    write, message = NO_WEIGHTS[kind]
    path = tmp_path / 'weights.pth'
    write(path)
    with pytest.raises(Refused, match=message) as error:
        checkpoints.load(path)
    assert 'truncated' not in str(error.value)


@pytest.mark.skipif(
    not os.path.exists('/proc/self/statm'), reason='only Linux says it')
def test_mapped_file_takes_memory_only_where_it_is_used(tmp_path):
    """Of 64 MB less than 4; `meta` of a checkpoint reads no weights."""

    def resident():  # MB
        with open('/proc/self/statm') as file:
            return int(
                file.read().split()[1]) * os.sysconf('SC_PAGESIZE') >> 20

    path = tmp_path / 'w.pth'
    torch.save(
        dict(meta=dict(iter=7), state_dict=dict(w=torch.ones(16 << 20))), path)
    before, read = resident(), path.read_bytes()[:8]
    with serialization.config.patch('load.mmap', True):
        weights = checkpoints.load(path)['state_dict']['w']
    assert resident() - before < 4
    assert checkpoints.meta(path) == dict(iter=7)
    assert resident() - before < 4
    weights[:] = 2  # in memory alone
    assert resident() - before >= 60 and path.read_bytes()[:8] == read
    assert checkpoints.load(path)['state_dict']['w'].sum() == 16 << 20


def test_what_shares_memory_still_shares_it(tmp_path):
    torch.save(shared(), tmp_path / 'w.pth')
    ours = checkpoints.load(tmp_path / 'w.pth')
    ours['w'][7] = -1
    assert ours['tied'][7] == -1 and ours['part'][0] == -1


def test_tensors_of_other_libraries_are_plain_ones(tmp_path):
    """No attribute of a file covers a method, no gradient is recorded."""
    weight = nn.Parameter(torch.ones(2))
    weight.untyped_storage = {}
    torch.save(dict(w=weight), tmp_path / 'w.pth')
    ours = checkpoints.state_dict_of(
        checkpoints.load(tmp_path / 'w.pth'), 'w.pth')['w']
    assert type(ours) is torch.Tensor and not ours.requires_grad
    assert not vars(ours) and ours.untyped_storage().nbytes() == 8


@pytest.mark.parametrize('names, program', [
    (('.metadata', '__0_0.distcp'), 'dcp_to_torch FOLDER FILE'),
    (('mp_rank_00_model_states.pt',
      'zero_pp_rank_0_mp_rank_00_optim_states.pt'), r'zero_to_fp32\.py'),
    (('adapter_config.json', 'adapter_model.safetensors'), 'merge_and_unload'),
])
def test_pieces_of_weights_are_called_so(tmp_path, names, program):
    for name in names:
        (tmp_path / name).touch()
    for path in tmp_path, tmp_path / names[-1]:
        with pytest.raises(
                Refused,
                match=f'{names[-1]} holds a piece of the .*{program}'):
            checkpoints.load(path)


@pytest.mark.parametrize('length', [0x120108, 0x5A1A181, 0x413E1481])
def test_length_of_a_header_may_begin_as_another_kind(length):
    start = length.to_bytes(8, 'little') + b'{"a": {}}'
    assert file_kinds.no_weights(start) == ''


def test_header_as_long_as_the_code_of_a_tag_is_no_web_page(tmp_path):
    """Its length, 0x3C20 bytes, begins with a blank and '<'."""
    path = tmp_path / 'w.safetensors'
    save_file(dict(w=torch.ones(1)), path, metadata=dict(x=''))
    length = int.from_bytes(path.read_bytes()[:8], 'little')
    save_file(
        dict(w=torch.ones(1)), path, metadata=dict(x='x' * (0x3c20 - length)))
    assert path.read_bytes()[:2] == b' <'
    assert checkpoints.load(path)['w'] == 1


def written(entries, form):
    data = io.BytesIO()
    torch.save(entries, data, _use_new_zipfile_serialization=FORMS[form])
    return data.getvalue()


@pytest.mark.parametrize(
    'count', [2_000, pytest.param(500_000, marks=pytest.mark.full)])
@pytest.mark.parametrize('entries', ['tensors', 'facts'])
@pytest.mark.parametrize('form', FORMS)
def test_many_small_entries_are_read(tmp_path, entries, form, count):
    one = torch.arange(100.)
    content = dict(w=one, facts={})
    if entries == 'tensors':
        content.update(
            (f'layers.{i}.weight', one.clone()) for i in range(count))
    else:
        content['facts'].update((f'fact {i}', i / 7) for i in range(count))
    path = tmp_path / 'w.pth'
    path.write_bytes(written(content, form))
    number = len(content)
    del content  # the memory is for what is read
    loaded = checkpoints.load(path)
    assert len(loaded) == number
    assert len(loaded['facts']) == (count if entries == 'facts' else 0)


@pytest.mark.parametrize('many', [18, 19])
def test_a_list_that_stands_often_is_paid_for_as_often(tmp_path, many):
    """Of 56 MB half a million lists of 72 bytes, and no million, are made."""
    facts = []
    for _ in range(many):
        facts = [facts, facts]
    path = tmp_path / 'w.pth'
    torch.save(dict(w=torch.ones(1), facts=facts), path)
    if many == 18:
        assert checkpoints.load(path)['facts'] == facts
    else:
        with pytest.raises(Refused, match='many times the memory'):
            checkpoints.load(path)
