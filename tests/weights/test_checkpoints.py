"""Files: read without running code, refused with a reason, written whole."""
import collections
import os
import pickle
import zipfile

import pytest
import torch
from helpers.models import clip_teacher
from mmengine.registry import MODELS

from mmfd import files
from mmfd.errors import Refused
from mmfd.weights import checkpoints, strict_loading
from mmfd.weights.convert import CONVERTERS

openai_clip = CONVERTERS['openai-clip']


class Hostile:

    def __init__(self, path):
        self.command = f'touch {path}'

    def __reduce__(self):
        return os.system, (self.command, )


def test_pickle_that_runs_a_command_is_refused_and_does_not_run(tmp_path):
    proof = tmp_path / 'was_here'
    file = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=Hostile(proof)), file)
    with pytest.raises(ValueError, match='posix.system.*was not loaded'):
        checkpoints.load(file)
    file.write_bytes(pickle.dumps(Hostile(proof)))  # an old-style pickle
    with pytest.raises(ValueError):
        checkpoints.load(file)
    assert not proof.exists()


class Probing:
    """Uses the one Python function that a host's log history needs."""

    def __reduce__(self):
        return getattr, (collections.OrderedDict, 'fromkeys')


def test_getattr_of_anything_but_log_history_is_refused(tmp_path):
    file = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=Probing()), file)
    with pytest.raises(ValueError, match='builtins.getattr.*not loaded'):
        checkpoints.load(file)


def write_torchscript(path, data_pkl, storage=b''):
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/data.pkl', data_pkl)
        archive.writestr('a/code/__torch__.py', '')
        archive.writestr('a/data/0', storage)


def test_torchscript_that_runs_a_command_is_refused_and_does_not_run(tmp_path):
    proof, file = tmp_path / 'was_here', tmp_path / 'weights.pt'
    write_torchscript(file, pickle.dumps(Hostile(proof)))
    with pytest.raises(ValueError, match='posix.system'):
        checkpoints.load(file)
    assert not proof.exists()


def truncated(share):

    def make(path):
        torch.save(dict(state_dict=dict(w=torch.zeros(1000))), path)
        whole = path.read_bytes()
        path.write_bytes(whole[:int(share * len(whole))])

    return make


def html(path):
    path.write_text('\n<!DOCTYPE html><html>Sign in to continue</html>')


def archive(path):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('holiday.txt', 'not weights')


def lying_torchscript(path):
    """Ten numbers claimed, four bytes stored."""

    class Reduced:

        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (None, 0, (10, ), (1, ),
                                                     False, None)

    write_torchscript(path, pickle.dumps(Reduced()), b'1234')


@pytest.mark.parametrize('make, message', [
    *[(truncated(i / 20), 'truncated') for i in range(1, 20)],
    (html, 'is a web page'),
    (archive, 'cannot be read as weights'),
    (lying_torchscript, 'cannot be read as weights'),
    (lambda path: path.write_bytes(b''), r'\(0 bytes\) cannot be read'),
    (lambda path: path.write_text('weights'), 'cannot be read as weights'),
])
def test_file_that_is_no_weights_is_refused_with_its_name(
        tmp_path, make, message):
    file = tmp_path / 'weights.pth'
    make(file)
    with pytest.raises(ValueError, match=message) as error:
        checkpoints.load(file)
    assert str(file) in str(error.value)


def test_tensor_that_claims_more_than_it_stores_is_refused(tmp_path):
    file = tmp_path / 'weights.pth'
    torch.save(dict(w=torch.zeros(1).expand(10**9)), file)
    with pytest.raises(ValueError, match="'w' claims 4,000,000,000 bytes"):
        checkpoints.state_dict_of(checkpoints.load(file), file)


def test_missing_teacher_says_where_it_comes_from(tmp_path):
    config = clip_teacher(tmp_path / 'clip.pth')
    with pytest.raises(
            Refused,
            match=r'no weights file .*clip.pth. OpenAI publishes it under the '
            r'MIT licence: .*tools/convert.py openai-clip https.*ViT-B-16.pt'):
        MODELS.build(config)


def test_teacher_that_fits_only_partly_is_refused_by_name(tmp_path):
    file = tmp_path / 'clip.pth'
    weights = MODELS.build(clip_teacher()).backbone.state_dict()
    weights['extra'] = weights.pop('pre_norm.bias')
    checkpoints.save(weights, file, {})
    with pytest.raises(ValueError, match='lacks pre_norm.bias and has extra'):
        MODELS.build(clip_teacher(file))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_what_is_saved_is_what_is_loaded(tmp_path, suffix):
    file = tmp_path / f'weights{suffix}'
    weights = dict(a=torch.randn(2, 3).T, b=torch.arange(3))
    checkpoints.save(weights, file, dict(kind='test'))
    loaded = checkpoints.state_dict_of(checkpoints.load(file), file)
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[k], weights[k]) for k in weights)


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / 'weights.pth'
    checkpoints.save(dict(a=torch.ones(1)), file, {})
    before = file.read_bytes()
    with pytest.raises(AttributeError):  # lambdas cannot be written
        with files.written_whole(file) as beside:
            beside.write_bytes(b'half')
            pickle.dumps(lambda: None)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ['weights.pth']


# --- OpenAI's archives ---


class Block(torch.nn.Module):
    """CLIP's block, as openai/CLIP names its parts; eight tokens a head."""

    def __init__(self, width):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(width, width // 64)
        self.ln_1 = torch.nn.LayerNorm(width)
        self.mlp = torch.nn.ModuleDict(
            dict(
                c_fc=torch.nn.Linear(width, 4 * width),
                c_proj=torch.nn.Linear(4 * width, width)))
        self.ln_2 = torch.nn.LayerNorm(width)

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        y = self.mlp['c_fc'](self.ln_2(x))
        return x + self.mlp['c_proj'](y * torch.sigmoid(1.702 * y))


class Visual(torch.nn.Module):

    def __init__(self, width, layers, patch, img_size):
        super().__init__()
        tokens = (img_size // patch)**2 + 1
        self.conv1 = torch.nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = torch.nn.Parameter(torch.randn(width))
        self.positional_embedding = torch.nn.Parameter(
            torch.randn(tokens, width))
        self.ln_pre = torch.nn.LayerNorm(width)
        self.transformer = torch.nn.ModuleDict(
            dict(
                resblocks=torch.nn.Sequential(
                    *[Block(width) for _ in range(layers)])))
        self.ln_post = torch.nn.LayerNorm(width)
        self.proj = torch.nn.Parameter(torch.randn(width, 32))

    def forward(self, images):
        x = self.conv1(images).flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(len(x), 1, -1)
        x = torch.cat([cls, x], 1) + self.positional_embedding
        x = self.transformer['resblocks'](self.ln_pre(x).transpose(0, 1))
        return self.ln_post(x.transpose(0, 1))


class Clip(torch.nn.Module):
    """As much of openai/CLIP as its published archives hold."""

    def __init__(self, width=128, layers=2, patch=8, img_size=32):
        super().__init__()
        self.visual = Visual(width, layers, patch, img_size)
        self.transformer = torch.nn.ModuleDict(
            dict(resblocks=torch.nn.Sequential(Block(64))))
        self.token_embedding = torch.nn.Embedding(7, 64)
        self.positional_embedding = torch.nn.Parameter(torch.randn(8, 64))
        self.ln_final = torch.nn.LayerNorm(64)
        self.text_projection = torch.nn.Parameter(torch.randn(64, 32))
        self.logit_scale = torch.nn.Parameter(torch.ones([]))
        self.register_buffer('input_resolution', torch.tensor(img_size))

    def forward(self, images, text):
        x = self.transformer['resblocks'](self.token_embedding(text))
        x = self.ln_final(x + self.positional_embedding)
        x = x @ self.text_projection * self.logit_scale
        return self.visual(images) @ self.visual.proj, x


def write_clip(path, half=True, **kwargs):
    """Write a CLIP of random weights as OpenAI does; return the module."""
    model = Clip(**kwargs).eval()
    for module in model.modules():  # as published: fp16 but for the norms
        if half and not isinstance(module, torch.nn.LayerNorm):
            for param in module.parameters(recurse=False):
                param.data = param.data.half().float()
    size = model.input_resolution.item()
    traced = torch.jit.trace(
        model, (torch.zeros(1, 3, size, size), torch.zeros(8, 1).long()))
    torch.jit.save(traced, path)
    return model


def test_torchscript_archive_gives_the_same_tensors_as_torch_jit(tmp_path):
    file = tmp_path / 'ViT.pt'
    write_clip(file)
    expected = torch.jit.load(file).state_dict()
    tensors = checkpoints.load(file)
    assert tensors.keys() == expected.keys()
    for name in expected:
        assert tensors[name].dtype == expected[name].dtype
        assert torch.equal(tensors[name], expected[name]), name


def test_converted_archive_gives_the_features_of_the_original(tmp_path):
    model = write_clip(tmp_path / 'ViT.pt')
    converted = openai_clip(checkpoints.load(tmp_path / 'ViT.pt'))
    checkpoints.save(converted, tmp_path / 'clip.pth', {})
    teacher = MODELS.build(clip_teacher(tmp_path / 'clip.pth', layers=2))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = teacher.backbone(images)[-1], model.visual(images)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_plain_state_dict_and_archive_convert_to_the_same(tmp_path):
    model = write_clip(tmp_path / 'ViT.pt')
    plain = openai_clip(model.state_dict())
    archived = openai_clip(checkpoints.load(tmp_path / 'ViT.pt'))
    assert plain.keys() == archived.keys()
    assert all(torch.equal(plain[k], archived[k]) for k in plain)


def resnet():
    from torchvision.models import resnet18
    return resnet18().state_dict()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_weights_that_have_lost_digits_are_refused_by_name(tmp_path, dtype):
    file = tmp_path / 'half.pth'
    checkpoints.save(dict(weight=torch.ones(2, 2, dtype=dtype)), file, {})
    with pytest.raises(ValueError, match="half.pth holds 'weight' in torch."):
        strict_loading.load_into(torch.nn.Linear(2, 2, bias=False), file)


def test_loading_tells_what_it_left_out(tmp_path):
    file = tmp_path / 'classifier.pth'
    weights = torch.nn.Linear(2, 2).state_dict(prefix='backbone.')
    weights |= torch.nn.Linear(2, 9).state_dict(prefix='head.fc.')
    checkpoints.save(weights, file, {})
    linear = torch.nn.Linear(2, 2)
    assert strict_loading.load_into(linear, file, 'backbone') == ['head']
    assert torch.equal(linear.weight, weights['backbone.weight'])


def test_size_message_names_both_shapes(tmp_path):
    file = tmp_path / 'large.pth'
    checkpoints.save(torch.nn.Linear(3, 2).state_dict(), file, {})
    with pytest.raises(
            ValueError,
            match=r'weight is \[2, 3\] in the file and \[2, 2\] in the '
            r'network\. Set arch'):
        strict_loading.load_into(torch.nn.Linear(2, 2), file)


def test_weights_are_written_by_their_suffix_alone(tmp_path):
    with pytest.raises(ValueError, match='out.txt is to end in .pth or'):
        checkpoints.save(dict(x=torch.ones(1)), tmp_path / 'out.txt', {})
    assert not list(tmp_path.iterdir())
