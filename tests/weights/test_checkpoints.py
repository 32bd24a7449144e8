"""Weights files: read without running code, refused with a reason."""
import collections
import os
import pickle
import zipfile

import pytest
import torch
from helpers.corpus import runs_command

from mmfd.errors import Refused
from mmfd.weights import checkpoints


def test_pickle_that_runs_a_command_is_refused_and_does_not_run(tmp_path):
    proof = tmp_path / 'was_here'
    file = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=runs_command(proof)), file)
    with pytest.raises(Refused, match='posix.system.*was not loaded'):
        checkpoints.load(file)
    file.write_bytes(pickle.dumps(runs_command(proof)))  # an old-style pickle
    with pytest.raises(Refused):
        checkpoints.load(file)
    assert not proof.exists()


class Probing:
    """Uses the one Python function that mmengine's log history needs."""

    def __reduce__(self):
        return getattr, (collections.OrderedDict, 'fromkeys')


def test_getattr_of_anything_but_log_history_is_refused(tmp_path):
    file = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=Probing()), file)
    with pytest.raises(Refused, match='builtins.getattr.*not loaded'):
        checkpoints.load(file)


def truncated(fraction):

    def make(path):
        torch.save(dict(state_dict=dict(w=torch.zeros(1000))), path)
        data = path.read_bytes()
        path.write_bytes(data[:int(fraction * len(data))])

    return make


def html(path):
    path.write_text('\n<!DOCTYPE html><html>Sign in to continue</html>')


def archive(path):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('holiday.txt', 'not weights')


@pytest.mark.parametrize('make, message', [
    *[(truncated(i / 20), 'truncated') for i in range(1, 20)],
    (html, 'is a web page'),
    (archive, 'is a zip archive of holiday.txt, none of them data.pkl'),
    (lambda path: path.write_bytes(b''), r'\(0 bytes\) cannot be read'),
    (lambda path: path.write_text('weights'), 'cannot be read as weights'),
])
def test_file_that_is_no_weights_is_refused_with_its_name(
        tmp_path, make, message):
    file = tmp_path / 'weights.pth'
    make(file)
    with pytest.raises(Refused, match=message) as error:
        checkpoints.load(file)
    assert str(file) in str(error.value)


def test_tensor_that_claims_more_than_it_stores_is_refused(tmp_path):
    file = tmp_path / 'weights.pth'
    torch.save(dict(w=torch.zeros(1).expand(10**7)), file)
    with pytest.raises(Refused, match="'w' claims 40,000,000 bytes"):
        checkpoints.state_dict_of(checkpoints.load(file), file)
    torch.save(dict(w=torch.zeros(1).expand(10**9)), file)
    with pytest.raises(Refused, match='many times the memory'):
        checkpoints.load(file)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_what_is_saved_is_what_is_loaded(tmp_path, suffix):
    file = tmp_path / f'weights{suffix}'
    weights = dict(a=torch.randn(2, 3).T, b=torch.arange(3))
    checkpoints.save(weights, file, dict(kind='test'))
    loaded = checkpoints.state_dict_of(checkpoints.load(file), file)
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[k], weights[k]) for k in weights)
    assert checkpoints.meta(file) == dict(kind='test')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_same_weights_make_the_same_file_under_any_name(tmp_path, suffix):
    weights = dict(a=torch.randn(3, 4), b=torch.ones(2))
    first, second = (tmp_path / f'{name}{suffix}' for name in ('one', 'two'))
    for file in first, second:
        checkpoints.save(weights, file, dict(kind='test'))
    assert first.read_bytes() == second.read_bytes()


def test_weights_are_written_by_their_suffix_alone(tmp_path):
    with pytest.raises(Refused, match='out.txt is to end in .pth or'):
        checkpoints.save(dict(x=torch.ones(1)), tmp_path / 'out.txt', {})
    assert not os.listdir(tmp_path)


def test_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').touch()
    for path in tmp_path / 'file' / 'out.pth', tmp_path / 'file/a/out.pth':
        with pytest.raises(Refused, match='cannot make the folder .*file'):
            checkpoints.save(dict(x=torch.ones(1)), path, {})
    assert os.listdir(tmp_path) == ['file']


def test_fingerprint_is_of_numbers_and_not_of_their_file(tmp_path):
    weights = dict(b=torch.arange(6.).view(2, 3).T, a=torch.ones(2))
    first = checkpoints.fingerprint(weights)
    checkpoints.save(weights, tmp_path / 'w.safetensors', {})
    loaded = checkpoints.load(tmp_path / 'w.safetensors')
    index = dict(loaded, relative_position_index=torch.arange(3))
    assert checkpoints.fingerprint(index) == first
    for other in (dict(a=weights['a']), dict(weights, a=torch.zeros(2)),
                  dict(weights, a=torch.ones(2, 1))):
        assert checkpoints.fingerprint(other) != first
