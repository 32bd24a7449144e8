"""Folders and shards of weights, as Hugging Face lays them out."""
import hashlib
import json
import subprocess

import pytest
import torch
from helpers.commands import command, refused
from helpers.corpus import runs_command
from helpers.foreign import TINY, hf_clip, hf_weights
from safetensors.torch import load_file, save_file

from mmfd.errors import Refused
from mmfd.weights import checkpoints, weight_files
from mmfd.weights.convert import convert

INDEX = 'model.safetensors.index.json'


def loaded(path):
    return checkpoints.state_dict_of(checkpoints.load(path), path)


@pytest.fixture(scope='module')
def clip():
    return hf_clip(TINY, 'CLIPModel')


@pytest.fixture
def shards(tmp_path, clip):
    """A folder as transformers writes a large model."""
    clip.save_pretrained(tmp_path / 'clip', max_shard_size='200KB')
    assert len(list((tmp_path / 'clip').glob('model-*.safetensors'))) > 3
    return tmp_path / 'clip'


def test_shards_are_the_model_that_transformers_wrote(shards, clip):
    expected = hf_weights(clip)
    for path in (shards, shards / INDEX, str(shards)):
        tensors = loaded(path)
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[k], expected[k]) for k in expected)


def write_bin(folder, weights):
    """Two shards and their index, as transformers wrote them before."""
    names = sorted(weights)
    parts = {'a.bin': names[::2], 'b.bin': names[1::2]}
    for file, keys in parts.items():
        torch.save({k: weights[k] for k in keys}, folder / file)
    weight_map = {k: file for file, keys in parts.items() for k in keys}
    (folder / 'pytorch_model.bin.index.json').write_text(
        json.dumps(dict(weight_map=weight_map)))


LAYOUTS = {
    'one file':
    lambda folder, weights: save_file(weights, folder / 'model.safetensors'),
    'an older file':
    lambda folder, weights: torch.save(weights, folder / 'pytorch_model.bin'),
    'older shards':
    write_bin,
    "open_clip's file":
    lambda folder, weights: save_file(weights, folder /
                                      'open_clip_model.safetensors'),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_folder_is_read_however_its_weights_are_called(tmp_path, layout):
    weights = {f'w{i}': torch.randn(3, 2) for i in range(5)}
    LAYOUTS[layout](tmp_path, weights)
    (tmp_path / 'config.json').write_text('{}')
    tensors = loaded(tmp_path)
    assert tensors.keys() == weights.keys()
    assert all(torch.equal(tensors[k], weights[k]) for k in weights)


def test_link_to_a_store_is_followed_as_in_hugging_faces_cache(tmp_path):
    (tmp_path / 'blobs').mkdir()
    (tmp_path / 'snapshot').mkdir()
    save_file(dict(w=torch.ones(1)), tmp_path / 'blobs' / '0123')
    (tmp_path / 'snapshot' / 'model.safetensors').symlink_to('../blobs/0123')
    assert loaded(tmp_path / 'snapshot')['w'] == 1


def test_sum_of_shards_is_that_of_what_sha256sum_prints(shards):
    names = [INDEX, *sorted(x.name for x in shards.glob('*.safetensors'))]
    printed = subprocess.run(['sha256sum', *names],
                             cwd=shards,
                             check=True,
                             capture_output=True).stdout
    assert weight_files.sha256(shards) == hashlib.sha256(printed).hexdigest()


def edit(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index['weight_map'])
    (folder / INDEX).write_text(json.dumps(index))


def remove_shard(folder):
    first, second = sorted(folder.glob('model-*'))[:2]
    first.unlink()
    second.unlink()


def add_tensor(folder):
    shard = sorted(folder.glob('model-*'))[0]
    save_file(dict(load_file(shard), extra=torch.ones(1)), shard)


def repeat_tensor(folder):
    first, second, *_ = sorted(folder.glob('model-*'))
    name = sorted(load_file(second))[0]
    save_file(dict(load_file(first), **{name: torch.ones(1)}), first)


def lose_tensor(folder):
    shard = max(folder.glob('model-*'), key=lambda x: len(load_file(x)))
    save_file(dict(list(load_file(shard).items())[1:]), shard)


def list_twice(folder):
    text = (folder / INDEX).read_text()
    (folder / INDEX).write_text(
        text.replace('"weight_map": {', '"weight_map": {"logit_scale": "x",'))


def elsewhere(name):

    def change(folder):
        save_file(dict(w=torch.ones(1)), folder.parent / 'out.safetensors')
        edit(folder, lambda shards: shards.update(logit_scale=name))

    return change


def rewrite(text):
    return lambda folder: (folder / INDEX).write_text(text)


def truncate(folder):
    shard = sorted(folder.glob('model-*'))[0]
    shard.write_bytes(shard.read_bytes()[:-10])


@pytest.mark.parametrize('spoil, message', [
    (remove_shard, r'lists \d+ shards, and beside it there is no '
     r'model-00001-of-\d+.safetensors, model-00002-of-\d+.safetensors: '),
    (add_tensor, 'model-00001-.* disagree on extra: they are not of one'),
    (repeat_tensor, 'model-00001-.* disagree on '),
    (lose_tensor, 'disagree on '),
    (list_twice, 'it lists logit_scale twice'),
    (elsewhere('../out.safetensors'), "'../out.safetensors', which is no"),
    (elsewhere('/etc/passwd'), "'/etc/passwd', which is no .safetensors"),
    (elsewhere('config.json'), "'config.json', which is no .safetensors"),
    (elsewhere(INDEX), 'which is no .safetensors file'),
    (elsewhere(3), 'is no index of shards: TypeError'),
    (rewrite('{}'), "is no index of shards: KeyError: 'weight_map'"),
    (rewrite('{"weight_map": {}}'), 'it lists nothing'),
    (rewrite('[1]'), 'is no index of shards: TypeError'),
    (rewrite('not json'), 'is no index of shards: JSONDecodeError'),
    (rewrite('<html>'), 'is no index of shards'),
    (rewrite('[' * 100000), 'is no index of shards: RecursionError'),
    (truncate, 'model-00001-of-.* cannot be read as weights'),
])
def test_shards_that_are_not_whole_are_refused(shards, spoil, message):
    spoil(shards)
    with pytest.raises(Refused, match=message) as error:
        checkpoints.load(shards)
    assert str(shards) in str(error.value)


def test_refused_shards_are_one_message_and_nothing_is_written(shards):
    lose_tensor(shards)
    before = [*shards.parent.rglob('*')]
    message = refused('convert', 'hf-clip', shards, shards.parent / 'out.pth')
    assert str(shards) in message and 'disagree on' in message
    assert [*shards.parent.rglob('*')] == before


def test_folder_without_weights_names_what_it_looked_for(tmp_path):
    (tmp_path / 'config.json').write_text('{}')
    message = 'is a folder and holds none of model.safetensors, .*: name '
    with pytest.raises(Refused, match=message + 'the weights file in it$'):
        checkpoints.load(tmp_path)
    torch.save({}, tmp_path / 'epoch_1.pth')
    with pytest.raises(Refused, match=message + r'.*, as .*/epoch_1\.pth$'):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize('name', ['student', 'classifier'])
def test_folder_of_a_run_stands_for_what_the_run_has_made(name, tmp_path):
    """And its metadata is found, too."""
    file = tmp_path / f'{name}.safetensors'
    checkpoints.save(dict(a=torch.ones(2)), file, dict(said='this'))
    checkpoints.save(dict(a=torch.zeros(2)), tmp_path / 'epoch_1.pth', {})
    assert checkpoints.load(tmp_path)['a'].tolist() == [1, 1]
    assert checkpoints.meta(tmp_path) == checkpoints.meta(file)
    assert checkpoints.meta(tmp_path)['said'] == 'this'


def test_path_that_no_system_takes_is_refused():
    with pytest.raises(Refused, match='cannot be read: File name too long'):
        checkpoints.load('x' * 5000)


def test_pointer_of_git_lfs_is_no_weights_file(tmp_path):
    (tmp_path / 'model.safetensors').write_text(
        'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n')
    with pytest.raises(Refused, match='only says where .* "git lfs pull"'):
        checkpoints.load(tmp_path)


def test_shard_that_runs_a_command_is_refused_and_does_not_run(tmp_path):
    write_bin(tmp_path, dict(a=torch.ones(1), b=torch.ones(1)))
    torch.save(dict(b=runs_command(tmp_path / 'was_here')), tmp_path / 'b.bin')
    with pytest.raises(Refused, match='posix.system.*not loaded'):
        checkpoints.load(tmp_path)
    assert not (tmp_path / 'was_here').exists()


def test_converted_shards_say_where_they_come_from(shards, clip, tmp_path):
    output = command('convert', 'hf-clip', shards, tmp_path / 'out.pth')
    file = checkpoints.load(tmp_path / 'out.pth')
    assert file['meta'] == dict(
        kind='hf-clip',
        source='clip',
        url='unknown',
        licence='unknown',
        sha256=weight_files.sha256(shards))
    expected = convert('hf-clip', hf_weights(clip))
    assert file['state_dict'].keys() == expected.keys()
    assert "note: activation and statistics are not in the file" in output
