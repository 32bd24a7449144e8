"""Hostile files: none runs a command, writes or takes the memory."""
import json
import os
import shutil

import pytest
import torch
from helpers import commands
from helpers.corpus import CANARY, MADE, honest, write

from mmfd.weights.convert import CONVERTERS

# What a file may cost over an honest small one: bytes of memory, seconds of
# a CPU; and for each byte of it. A time that grows with the square of the size
# takes minutes, which others that share the CPU do not make of a second
MOST_MEMORY, MOST_MEMORY_A_BYTE = 64 << 20, 4
MOST_SECONDS, MOST_SECONDS_A_BYTE = 10, 1 / (3 << 20)
# One of each way to be refused, for the ways in that take their time
SOME = [
    'system.weight.pth', 'escape.legacy.pth', 'polyglot.pth', 'bomb.pth',
    'module_tree.pt', 'larger_shape.safetensors', 'shards_up', 'half.pth',
    'many_integers.pth', 'many_lists_of_one.pth'
]
# One number with a hundred axes, none in axes beyond 64 bits, none in many
HARMLESS = {
    'axes.zip.pth', 'axes.script.pt', 'empty_overflow.zip.pth',
    'empty_overflow.script.pt', 'many_entries.safetensors'
}
REFUSED = sorted(MADE.keys() - HARMLESS)
CONVERT = [f'convert {kind}' for kind in CONVERTERS]
TOOLS = [
    'convert openai-clip', 'export', 'timm', 'teacher', 'load_from', 'resume',
    'init_cfg'
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('corpus')
    write(folder)
    return folder


def read_by(ways, names, folder, shapes_root, script='ways_in.py'):
    """What happens when each file is read in each way: rows of `ways_in`.

    The first rows are of an honest small file.
    """
    (folder / 'honest.pth').write_bytes(honest())
    names = ['honest.pth', *names]
    home = dict.fromkeys(('HOME', 'XDG_CACHE_HOME', 'MPLCONFIGDIR', 'TMPDIR'),
                         folder / 'home')
    (folder / 'home').mkdir(exist_ok=True)
    status, output = commands.run(
        str(commands.ROOT / 'tests/helpers' / script),
        folder,
        shapes_root / 'imagenet',
        ','.join(ways),
        *names,
        env=home,
        seconds=3000)
    rows = [json.loads(x) for x in output.splitlines() if x[:7] == '{"way":']
    assert status == 0 and len(rows) == len(ways) * len(names), output[-3000:]
    return rows


def check(rows, folder, honest='honest.pth'):
    """No file was taken, each got one message, and nothing else happened.

    The first rows are of an honest file, with which the others are compared.
    """
    small = {row['way']: row for row in rows if row['file'] == honest}
    for row in rows[len(small):]:
        assert row['end'] == 'refused', row
        assert row['file'] in row['message'], row
        assert len(row['message']) < 2000, row
        assert 'safe_globals' not in row['message'], row
        assert 'weights_only' not in row['message'], row
        assert row['events'] == [] and row['left'] in ([], ['run']), row
        check_cost(row, small[row['way']])
    assert not (folder / CANARY).exists()


def check_cost(row, small):
    """Limits for any file, in proportion to it; `small` is of a small one."""
    size = min(row['size'], 1 << 30)  # not of what lies on no disk
    memory = small['peak'] + MOST_MEMORY + MOST_MEMORY_A_BYTE * size
    seconds = small['seconds'] + MOST_SECONDS + MOST_SECONDS_A_BYTE * size
    assert row['peak'] < memory and row['seconds'] < seconds, row


AFTER = {'out', 'home', 'honest.pth'}


def test_hostile_files_are_refused_with_their_names(folder, shapes_root):
    before = sorted({*os.listdir(folder)} - AFTER)
    assert len(REFUSED) > 150
    check(read_by(['load'], REFUSED, folder, shapes_root), folder)
    assert sorted({*os.listdir(folder)} - AFTER) == before


def test_hostile_files_are_refused_by_every_tool(folder, shapes_root):
    check(read_by(TOOLS, SOME, folder, shapes_root), folder)


@pytest.mark.full
def test_hostile_files_cost_every_converter_little(folder, shapes_root):
    check(read_by(CONVERT, REFUSED, folder, shapes_root), folder)


@pytest.mark.full
@pytest.mark.parametrize('tool', TOOLS)
def test_every_hostile_file_is_refused_by_every_tool(tool, folder,
                                                     shapes_root):
    check(read_by([tool], REFUSED, folder, shapes_root), folder)


BAD = '''
import os
from helpers import ways_in

def bad(path, *_):
    os.system('true')
    open(path, 'w')
    bytearray(300 << 20)

ways_in.WAYS['load'] = bad
ways_in.main()
'''


def test_a_tool_that_does_what_is_watched_for_is_seen(tmp_path, shapes_root):
    """Else none of these tests could fail."""
    script = tmp_path / 'bad.py'
    script.write_text(BAD)
    (tmp_path / 'weights.pth').touch()
    _, row = read_by(['load'], ['weights.pth'], tmp_path, shapes_root, script)
    assert {event for event, *_ in row['events']} == {'os.system', 'open'}
    assert row['peak'] > 250 << 20 and row['end'] == 'accepted'


NO_RUNS = {  # what stands beside the weights -> why no run goes on from it
    'nothing': (None, 'does not say at which epoch'),
    'list': ([1], 'does not say at which epoch'),
    'text': (dict(epoch='1', iter=1), "meta.epoch is '1'"),
    'deep': (dict(epoch=1, iter=1, model='[' * 100_000), 'no readable config'),
    'number': (dict(epoch=1, iter=1, model=3), 'meta.model is 3'),
    'another': (dict(epoch=1, iter=1), 'does not fit FeatureDistillation'),
}


def test_run_is_not_resumed_from_what_is_no_run(tmp_path, shapes_root):
    for name, (meta, _) in NO_RUNS.items():
        torch.save(
            dict(
                meta=meta,
                state_dict=dict(w=torch.ones(1)),
                message_hub=dict(
                    log_scalars={}, runtime_info={}, resumed_keys={}),
                optimizer=dict(state={}, param_groups=[])),
            tmp_path / f'{name}.pth')
    names = [f'{name}.pth' for name in NO_RUNS]
    # one that reaches the model, for which more is imported
    shutil.copy(tmp_path / 'another.pth', tmp_path / 'first.pth')
    _, *rows = read_by(['resume'], ['first.pth', *names], tmp_path,
                       shapes_root)
    check(rows, tmp_path, honest='first.pth')
    for row, (_, message) in zip(rows[1:], NO_RUNS.values()):
        assert message in row['message'], row
