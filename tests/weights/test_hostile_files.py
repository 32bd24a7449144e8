"""Foreign files: none runs a command, writes or takes the memory."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.corpus import CANARY, MADE, write
from helpers.models import student
from mmengine.registry import MODELS

from mmfd.hosts import openmmlab
from mmfd.weights import checkpoints
from mmfd.weights.carried_config import carried_config
from mmfd.weights.export import export
from mmfd.weights.mmengine_reader import load_for_mmengine

MEGABYTES = 256  # beside the libraries
# One of each way to be refused, for the ways in that take their time
SOME = [
    'system.weight.pth', 'escape.legacy.pth', 'polyglot.pth', 'bomb.pth',
    'module_tree.pt', 'larger_shape.safetensors', 'shards_up', 'half.pth'
]
# One number with a hundred axes, and none in axes beyond 64 bits
HARMLESS = {'axes.zip.pth', 'empty_overflow.zip.pth'}
REFUSED = sorted(MADE.keys() - HARMLESS)
WAYS = ['convert', 'export', 'timm', 'teacher', 'load_from', 'resume']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('corpus')
    write(folder)
    return folder


def given(folder, images, ways, names):
    """What happens when files are given to ways of reading: rows."""
    script = Path(__file__).parents[1] / 'helpers/ways_in.py'
    home = dict.fromkeys(('HOME', 'XDG_CACHE_HOME', 'MPLCONFIGDIR', 'TMPDIR'),
                         str(folder / 'home'))
    (folder / 'home').mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, script, folder, images, ','.join(ways), *names],
        env=dict(os.environ, **home),
        capture_output=True,
        text=True,
        timeout=3000)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(ways) * len(names), (rows[-1:], done)
    return rows


def check(rows, folder):
    """No file was taken, each got one message, and nothing else happened."""
    for row in rows:
        assert row['end'] == 'refused', row
        assert row['file'] in row['said'], row
        assert len(row['said']) < 2000, row
        assert row['seen'] == [] and row['left'] in ([], ['run']), row
        assert row['peak'] < MEGABYTES << 20, row
        assert row['seconds'] < 60, row
    assert not (folder / CANARY).exists()


def test_hostile_files_are_refused_with_their_names(folder, shapes_root):
    there = sorted(os.listdir(folder))
    assert len(REFUSED) > 150
    check(given(folder, shapes_root / 'imagenet', ['load'], REFUSED), folder)
    assert sorted({*os.listdir(folder)} - {'out', 'home'}) == there


def test_hostile_files_are_refused_by_every_tool(folder, shapes_root):
    rows = given(folder, shapes_root / 'imagenet', [*WAYS, 'init_cfg'], SOME)
    check(rows, folder)


@pytest.mark.full
def test_every_hostile_file_is_refused_by_every_tool(folder, shapes_root):
    rows = given(folder, shapes_root / 'imagenet', [*WAYS, 'init_cfg'],
                 REFUSED)
    check(rows, folder)


def test_a_tool_that_does_what_is_watched_for_is_seen(folder, shapes_root):
    """Else none of these tests could fail."""
    (folder / 'weights.pth').write_bytes(b'')
    code = '\n'.join([
        'import sys, os, pathlib',
        'import ways_in',
        'def bad(path, *_): os.system("true"); open(path, "w"); '
        'bytearray(300 << 20)',
        'ways_in.WAYS["load"] = bad',
        'ways_in.main()',
    ])
    done = subprocess.run(
        [sys.executable, '-c', code, folder, '-', 'load', 'weights.pth'],
        cwd=os.getcwd(),
        env=dict(
            os.environ,
            PYTHONPATH=os.pathsep.join([
                str(Path(__file__).parents[1] / 'helpers'),
                os.getcwd(),
                os.environ.get('PYTHONPATH', '')
            ])),
        capture_output=True,
        text=True)
    (folder / 'weights.pth').unlink()
    row = json.loads(done.stdout)
    assert {event for event, *_ in row['seen']} == {'os.system', 'open'}
    assert row['peak'] > 250 << 20 and row['end'] == 'accepted'


# --- configs that a file carries ---


def carrying(path, model, **meta):
    """A student's weights, and beside them what a stranger says of them."""
    weights = MODELS.build(student()).state_dict()
    if not isinstance(model, str):
        model = json.dumps(model)
    checkpoints.save({
        f'backbone.{k}': v
        for k, v in weights.items()
    }, path, dict(meta, model=model))
    return path


def large(**kwargs):
    return student(arch=dict(student()['arch'], **kwargs))


CARRIED = {
    'system': dict(type='os.system', command='touch was_here'),
    'norm': student(norm_cfg=dict(type='os.system')),
    'scope': student(_scope_='antigravity'),
    'nested scope': student(norm_cfg=dict(type='LN', _scope_='antigravity')),
    'list of types': student(type=['os.system']),
    'start': dict(student(), patch_cfg=dict(type='builtins.eval')),
    'argument': {
        **student(), 'x=__import__("os").system("touch was_here")': 1
    },
    'layers': large(num_layers=10**9),
    'many layers': large(num_layers=500_000, embed_dims=3, num_heads=3),
    'width': large(embed_dims=3 * 10**6),
    'wide': large(embed_dims=99_000, feedforward_channels=99_000),
    'image': student(img_size=10**6, patch_size=1),
    'larger image': student(img_size=90_000, patch_size=8),
    'heads': large(num_heads=0),
    'negative': large(embed_dims=-48),
    'infinite': large(embed_dims=float('inf')),
    'no number': large(embed_dims=float('nan')),
    'text': large(embed_dims='48'),
    'backbone of text': 'base',
    'backbone of numbers': [1, 2],
}
TEXTS = {
    'deep': '[' * 100_000,
    'deep backbone': '{"backbone": ' * 5000 + '1' + '}' * 5000,
    'no json': '{"backbone": ',
    'list': '[1]',
    'number': '1',
    'python': '__import__("os").system("touch was_here")',
}


@pytest.mark.parametrize('library', ['timm', 'hf'])
@pytest.mark.parametrize('name', [*CARRIED, *TEXTS])
def test_config_in_a_file_calls_nothing_and_takes_no_memory(
        tmp_path, monkeypatch, name, library):
    monkeypatch.chdir(tmp_path)
    model = TEXTS.get(name) or dict(backbone=CARRIED[name])
    file = carrying(tmp_path / 'weights.pth', model)
    with pytest.raises(ValueError, match='weights.pth|builds no backbone'):
        export(file, carried_config(file, to_build=True), library)
    assert os.listdir(tmp_path) == ['weights.pth']


def test_python_of_a_file_is_not_handed_on(tmp_path):
    config = {**student(), 'x=exit()': 1}
    file = carrying(tmp_path / 'weights.pth', dict(backbone=config))
    made = export(file, carried_config(file, to_build=False), 'backbone')
    assert made.python == 'its config'


NO_RUNS = {  # what stands beside the weights -> why no run goes on from it
    'nothing': (None, 'does not say at which epoch'),
    'list': ([1], 'does not say at which epoch'),
    'text': (dict(epoch='1', iter=1), 'does not say at which epoch'),
    'deep': (dict(epoch=1, iter=1, model='[' * 100_000), 'no readable config'),
    'number': (dict(epoch=1, iter=1, model=3), 'no readable config'),
    'another': (dict(epoch=1, iter=1), 'does not fit FeatureDistillation'),
}


def test_run_is_not_resumed_from_what_is_no_run(tmp_path, shapes_root):
    for name, (meta, _) in NO_RUNS.items():
        torch.save(
            dict(
                meta=meta,
                state_dict=dict(w=torch.ones(1)),
                optimizer=dict(state={}, param_groups=[])),
            tmp_path / f'{name}.pth')
    names = [f'{name}.pth' for name in NO_RUNS]
    rows = given(tmp_path, shapes_root / 'imagenet', ['resume'], names)
    check(rows, tmp_path)
    for row, (_, message) in zip(rows, NO_RUNS.values()):
        assert message in row['said'], row


def host_reads(path):
    from mmengine.runner.checkpoint import _load_checkpoint
    return _load_checkpoint(str(path), map_location='cpu')


def test_host_reads_files_as_mmfd_does(folder):
    """By its own reader `escape` runs its command."""
    openmmlab.set_checkpoint_loader(load_for_mmengine)
    for name in 'escape.legacy.pth', 'escape.zip.pth', 'polyglot.pth':
        with pytest.raises(ValueError, match=name):
            host_reads(folder / name)
    assert not (folder / CANARY).exists()


def test_config_as_text_is_not_run_by_the_host(tmp_path):
    """It takes `meta['config']` for Python when it resumes."""
    openmmlab.set_checkpoint_loader(load_for_mmengine)
    command = f'import os; os.system("touch {tmp_path / CANARY}")'
    torch.save(
        dict(meta=dict(epoch=1, config=command), state_dict={}),
        tmp_path / 'epoch_1.pth')
    assert host_reads(tmp_path / 'epoch_1.pth')['meta'] == dict(epoch=1)


def test_log_history_that_the_host_reads_is_what_it_wrote(tmp_path):
    import numpy as np
    from mmengine.logging import HistoryBuffer
    openmmlab.set_checkpoint_loader(load_for_mmengine)
    written = HistoryBuffer([0.5, 0.25, 3], [1, 2, 1], 100)
    torch.save(
        dict(
            state_dict={},
            message_hub=dict(
                log_scalars=dict(loss=written),
                runtime_info=dict(
                    best=np.float64(0.5), count=np.int64(3), text='x'))),
        tmp_path / 'epoch_1.pth')
    hub = host_reads(tmp_path / 'epoch_1.pth')['message_hub']
    loss = hub['log_scalars']['loss']
    for ours, theirs in zip(loss.data, written.data):
        assert ours.dtype == theirs.dtype and ours.tolist() == theirs.tolist()
    assert loss.mean(2) == written.mean(2) and loss.max_length == 100
    assert hub['runtime_info'] == dict(best=0.5, count=3, text='x')


def test_screen_is_not_steered_by_a_name_in_a_file(tmp_path, monkeypatch):
    from test_tools import refused
    torch.save({'\x1b[2J\x1b[31mall is well': torch.ones(1)},
               tmp_path / 'weights.pth')
    said = refused(monkeypatch, 'convert', 'mae', tmp_path / 'weights.pth',
                   tmp_path / 'out.pth')
    assert '\x1b' not in said and 'all is well' in said


def test_file_says_nothing_of_its_origin_that_steers_a_screen(tmp_path):
    from mmfd.weights import provenance
    told = provenance.of_meta({
        'source': 'a\x1b[2Jb',
        'licence': 'MIT',
        'url': 'x' * 10**6,
        'teacher.\x1b.file': 'x',
        3: 'y'
    })
    assert told == dict(licence='MIT')
