"""Files as people have them: read as PyTorch reads them."""
import argparse
import collections
import datetime
import io
import os
import types

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file
from torch import nn
from torch.utils import serialization

from mmfd.weights import checkpoints
from mmfd.weights.pickled_names import Stub


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(5))


def trained(make=torch.optim.AdamW):
    """A network and its optimizer after a step."""
    net = network()
    net(torch.ones(2, 3, 5, 5))
    optimizer = make(net.parameters(), lr=.1)
    net(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    return net, optimizer


def lightning():
    net, optimizer = trained()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 7])
    return {
        'epoch': 3,
        'global_step': 1200,
        'pytorch-lightning_version': '2.5.1',
        'state_dict': {
            f'model.{k}': v
            for k, v in net.state_dict().items()
        },
        'loops': dict(fit_loop=dict(state_dict={})),
        'callbacks': {
            "ModelCheckpoint{'monitor': 'val'}":
            dict(best_model_score=torch.tensor(.5), kth_value=None)
        },
        'optimizer_states': [optimizer.state_dict()],
        'lr_schedulers': [schedule.state_dict()],
        'hparams_name': 'kwargs',
        'hyper_parameters': dict(lr=1e-3, betas=(.9, .999), name=b'vit'),
    }


def mmengine():
    net, optimizer = trained()
    history = HistoryBuffer([.5, .25], [1, 1], 1000)
    return dict(
        meta=dict(
            epoch=1,
            iter=20,
            seed=np.int64(3),
            dataset_meta=dict(classes=('cat', 'dog'), palette=[(1, 2, 3)])),
        state_dict=net.state_dict(),
        message_hub=dict(
            log_scalars={'train/loss': history},
            runtime_info=dict(best=np.float32(.5), loop_stage='train'),
            resumed_keys={'train/loss': True}),
        optimizer=optimizer.state_dict(),
        param_schedulers=[])


def official():
    """As MAE, DeiT and DINO save."""
    net, optimizer = trained(torch.optim.SGD)
    args = argparse.Namespace(lr=.1, device=torch.device('cpu'), path=None)
    return dict(
        model=net.state_dict(),
        optimizer=optimizer.state_dict(),
        scaler=dict(scale=65536., growth_factor=2.),
        args=args,
        epoch=3)


def random_states():
    return dict(
        w=torch.ones(2),
        torch_rng=torch.get_rng_state(),
        numpy_rng=np.random.get_state(),
        array=np.arange(6.).reshape(2, 3),
        nothing=np.array([]),
        flag=np.bool_(True))


def shared():
    one = torch.arange(64.)
    return dict(
        w=one,
        tied=one,
        part=one[7:20],
        turned=one.view(8, 8).T,
        steps=one[::3],
        expanded=one[:1].expand(4),
        empty=torch.zeros(0, 3),
        number=torch.tensor(3.))


def parameters():
    net = network()
    net(torch.ones(2, 3, 5, 5))
    attributed = nn.Parameter(torch.ones(2))
    attributed.lr_scale = .5
    buffer = nn.Buffer(torch.ones(3))
    return {**dict(net.named_parameters()), 'a': attributed, 'b': buffer}


def dtypes():
    kinds = (torch.bfloat16, torch.float16, torch.float64, torch.int64,
             torch.int32, torch.int16, torch.uint8, torch.uint16, torch.bool,
             torch.float8_e4m3fn, torch.float8_e5m2)
    return {f'{kind}': torch.ones(5).to(kind) for kind in kinds}


KINDS = {
    'state_dict':
    lambda: trained()[0].state_dict(),
    'plain_dict':
    lambda: dict(trained()[0].state_dict()),
    'below_model':
    lambda: dict(model=trained()[0].state_dict(), epoch=1),
    'lightning':
    lightning,
    'mmengine':
    mmengine,
    'official':
    official,
    'random_states':
    random_states,
    'shared':
    shared,
    'parameters':
    parameters,
    'dtypes':
    dtypes,
    'adagrad':
    lambda: dict(
        w=torch.ones(1),
        optimizer=trained(torch.optim.Adagrad)[1].state_dict()),
    'data_parallel':
    lambda: nn.DataParallel(trained()[0]).state_dict(),
    'sizes':
    lambda: dict(w=torch.ones(1), shapes={'w': torch.Size([1, 2])}),
    'facts':
    lambda: dict(
        w=torch.ones(1),
        text='ünïcödé 😀',
        numbers=[0, -1, 255, 65536, -2**31, 2**40, 1e-9,
                 float('inf')],
        nested=[[({}, [], ())]],
        set={1, 2},
        frozen=frozenset([1]),
        counter=collections.Counter(a=1),
        begun=datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
        took=datetime.timedelta(1),
        options=types.SimpleNamespace(a=1),
        imaginary=1j,
        dtype=torch.bfloat16,
        none=None,
        flags=(True, False),
        long='x' * 1000,
        data=bytes(range(256))),
}
FORMS = dict(zip=True, older=False)
STUBS = (np.ndarray, np.generic, complex, types.SimpleNamespace, datetime.date,
         datetime.timedelta)


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
