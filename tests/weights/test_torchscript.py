"""OpenAI's archives: the tensors of torch.jit, and no code."""
import pickle
import zipfile

import pytest
import torch
from helpers.corpus import runs_command
from helpers.models import clip_teacher
from helpers.openai_clip import write_clip
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.weights import checkpoints
from mmfd.weights.convert import convert


def write_archive(path, data_pkl, storage=b''):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/data.pkl', data_pkl)
        archive.writestr('a/code/__torch__.py', '')
        archive.writestr('a/data/0', storage)


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """A CLIP of random weights, and its archive."""
    file = tmp_path_factory.mktemp('clip') / 'ViT.pt'
    return write_clip(file), file


def test_archive_gives_the_same_tensors_as_torch_jit(clip):
    _, file = clip
    expected = torch.jit.load(file).state_dict()
    tensors = checkpoints.load(file)
    assert tensors.keys() == expected.keys()
    for name in expected:
        assert tensors[name].dtype == expected[name].dtype
        assert torch.equal(tensors[name], expected[name]), name


def test_converted_archive_gives_the_features_of_the_original(clip, tmp_path):
    model, file = clip
    converted = convert('openai-clip', checkpoints.load(file))
    checkpoints.save(converted, tmp_path / 'clip.pth', {})
    teacher = MODELS.build(clip_teacher(tmp_path / 'clip.pth', layers=2))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = teacher.backbone(images)[-1], model.visual(images)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_plain_state_dict_and_archive_convert_to_the_same(clip):
    model, file = clip
    plain = convert('openai-clip', model.state_dict())
    archived = convert('openai-clip', checkpoints.load(file))
    assert plain.keys() == archived.keys()
    assert all(torch.equal(plain[k], archived[k]) for k in plain)


def test_archive_that_runs_a_command_is_refused_and_does_not_run(tmp_path):
    proof, file = tmp_path / 'was_here', tmp_path / 'weights.pt'
    write_archive(file, pickle.dumps(runs_command(proof), 2))
    with pytest.raises(Refused, match='posix.system'):
        checkpoints.load(file)
    assert not proof.exists()


class TenOfNone:
    """Ten numbers claimed of a storage."""

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (None, 0, (10, ), (1, ), False,
                                                 None)


def test_tensor_that_claims_more_than_is_stored_is_refused(tmp_path):
    file = tmp_path / 'weights.pt'
    write_archive(file, pickle.dumps(TenOfNone(), 2), b'1234')
    with pytest.raises(Refused, match='weights.pt .* cannot be read as'):
        checkpoints.load(file)
