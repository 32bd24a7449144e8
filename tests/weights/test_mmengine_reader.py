"""mmengine reads checkpoints by mmfd's function, and runs nothing in them."""
import argparse
import os

import numpy as np
import pytest
import torch
from helpers.corpus import CANARY, MADE
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint

from mmfd.errors import Refused
from mmfd.hosts import openmmlab
from mmfd.weights.mmengine_reader import load_for_mmengine
from mmfd.weights.pickled_names import Stub


@pytest.mark.parametrize(
    'name', ['escape.legacy.pth', 'escape.zip.pth', 'polyglot.pth'])
def test_mmengine_runs_no_command_of_a_file(tmp_path, name):
    """By its own reader `escape` runs its command."""
    MADE[name](tmp_path / name)
    openmmlab.set_checkpoint_loader(load_for_mmengine)
    with pytest.raises(Refused, match=name):
        load_checkpoint(torch.nn.Linear(1, 1), str(tmp_path / name))
    assert CANARY not in os.listdir(tmp_path)


def read(path):
    return load_for_mmengine(str(path), map_location='cpu')


def test_config_as_text_is_left_out_since_mmengine_would_run_it(tmp_path):
    """It takes `meta['config']` for Python when it resumes."""
    command = f'import os; os.system("touch {tmp_path / CANARY}")'
    torch.save(
        dict(meta=dict(epoch=1, config=command), state_dict={}),
        tmp_path / 'epoch_1.pth')
    assert read(tmp_path / 'epoch_1.pth')['meta'] == dict(epoch=1)


def test_log_history_is_what_mmengine_wrote(tmp_path):
    written = HistoryBuffer([0.5, 0.25, 3], [1, 2, 1], 100)
    torch.save(
        dict(
            state_dict={},
            message_hub=dict(
                log_scalars=dict(loss=written),
                runtime_info=dict(
                    best=np.float64(0.5), count=np.int64(3), text='x'))),
        tmp_path / 'epoch_1.pth')
    hub = read(tmp_path / 'epoch_1.pth')['message_hub']
    loss = hub['log_scalars']['loss']
    for ours, theirs in zip(loss.data, written.data):
        assert ours.dtype == theirs.dtype and ours.tolist() == theirs.tolist()
    assert loss.mean(2) == written.mean(2) and loss.max_length == 100
    assert hub['runtime_info'] == dict(best=0.5, count=3, text='x')


def test_numbers_of_numpy_are_numbers(tmp_path):
    """A schedule of one's own computes its lr, a data set has its palette."""
    facts = dict(
        lr=np.float64(0.5),
        nested=[dict(count=np.uint8(3)), (np.bool_(True), np.float16(1))],
        palette=np.arange(6, dtype='u1').reshape(2, 3),
        by_column=np.asfortranarray([[1., 2.], [3., 4.]]),
        other_order=np.array([1., 2.], '>f8'),
        empty=np.zeros((0, 3)))
    keys = 'meta', 'optimizer', 'param_schedulers', 'message_hub'
    torch.save(dict.fromkeys(keys, facts), tmp_path / 'epoch_1.pth')
    checkpoint = read(tmp_path / 'epoch_1.pth')
    for key in keys:
        ours = checkpoint[key]
        assert (ours['lr'], ours['nested']) == (0.5, [{
            'count': 3
        }, (True, 1.)])
        assert type(ours['lr']) is float
        for name in 'palette', 'by_column', 'other_order', 'empty':
            np.testing.assert_array_equal(ours[name], facts[name], strict=True)


def test_what_is_no_number_of_numpy_stays_what_it_is(tmp_path):
    meta = dict(
        words=np.array(['a']), args=argparse.Namespace(a=1), path=tmp_path)
    torch.save(dict(meta=meta), tmp_path / 'epoch_1.pth')
    meta = read(tmp_path / 'epoch_1.pth')['meta']
    assert all(isinstance(value, Stub) for value in meta.values())


@pytest.mark.parametrize('change', [
    dict(_log_history=[0.5]),
    dict(_log_history=np.array(['x', 'y', 'z'])),
    dict(max_length=float('inf')),
    dict(max_length=None),
])
def test_log_history_of_no_numbers_is_refused(tmp_path, change):
    history = HistoryBuffer([0.5, 0.25, 3], [1, 2, 1], 100)
    vars(history).update(change)
    torch.save(
        dict(state_dict={}, message_hub=dict(log_scalars=dict(loss=history))),
        tmp_path / 'epoch_1.pth')
    with pytest.raises(Refused, match='epoch_1.pth holds a log history'):
        read(tmp_path / 'epoch_1.pth')
