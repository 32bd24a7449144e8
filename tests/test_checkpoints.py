"""Files: read without running code, refused with a reason, written whole."""
import argparse
import collections
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from models import arch, clip_teacher, dino_teacher

from mmfd import checkpoints
from mmfd.convert import CONVERTERS

dino, openai_clip = CONVERTERS['dino'], CONVERTERS['openai-clip']


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
            FileNotFoundError,
            match=r'no weights file .*clip.pth. Download ViT-B-16.pt from '
            r'https.*tools/convert.py openai-clip'):
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
        with checkpoints.written_whole(file) as beside:
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


def clip():
    return Clip().state_dict()


def timm_vit(width=128, layers=2):
    """With random weights, in timm's names, which are DINO's."""
    timm = pytest.importorskip('timm')
    model = timm.models.VisionTransformer(
        embed_dim=width, depth=layers, num_heads=width // 64, num_classes=0)
    randomise(model)
    return model.eval()


def vit():
    return timm_vit().state_dict()


@pytest.mark.parametrize('kind, model, more, message', [
    ('openai-clip', resnet, [], "not OpenAI's CLIP ViT, which has no 'conv1"),
    ('openai-clip', clip, ['visual.layer1.0.conv1.weight'], 'ResNet'),
    ('openai-clip', clip, ['visual.new'], "which has no 'visual.new'"),
    ('openai-clip', dict, ['logit_scale'], "becomes 'cls_token'"),
    ('dino', clip, [], "not DINO's ViT, which has no 'positional_embedding'"),
    ('dino', vit, ['head.weight'], "not DINO's ViT, .* no 'head.weight'"),
    ('dino', vit, ['blocks.0.ls1.gamma'], "no 'blocks.0.ls1.gamma'"),
    ('dino', resnet, [], "not DINO's ViT, which has no 'conv1.weight'"),
])
def test_weights_of_another_kind_are_refused(kind, model, more, message):
    weights = dict(model(), **dict.fromkeys(more, torch.zeros(1)))
    with pytest.raises(ValueError, match=message):
        CONVERTERS[kind](weights)


SIZES = [
    pytest.param('ViT-B-16', 'base', 16, 128, 2, id='tiny'),
    pytest.param('ViT-B-16', 'base', 16, 768, 12, marks=pytest.mark.full),
    pytest.param('ViT-L-14', 'large', 14, 1024, 24, marks=pytest.mark.full),
]


@pytest.mark.parametrize('name, size, patch, width, layers', SIZES)
def test_features_equal_those_of_open_clip(name, size, patch, width, layers):
    open_clip = pytest.importorskip('open_clip')
    visual = open_clip.model._build_vision_tower(
        embed_dim=32,
        vision_cfg=open_clip.model.CLIPVisionCfg(
            layers=layers, width=width, patch_size=patch, image_size=224),
        quick_gelu=True).eval()
    randomise(visual)
    weights = {f'visual.{k}': v for k, v in visual.state_dict().items()}
    ours = backbone_of(openai_clip(weights), size, patch, width, layers)
    images = torch.randn(2, 3, 224, 224)
    theirs = {}
    visual.ln_post.register_forward_hook(
        lambda module, args, out: theirs.update(tokens=out))
    visual.pool_type = 'none'
    with torch.no_grad():
        visual(images)
        tokens = ours(images)[-1]
    torch.testing.assert_close(tokens, theirs['tokens'], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name, size, patch, width, layers', SIZES)
def test_features_equal_those_of_transformers(name, size, patch, width,
                                              layers):
    from transformers import CLIPVisionConfig, CLIPVisionModel
    theirs = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            patch_size=patch,
            image_size=224)).eval()
    randomise(theirs)
    ours = backbone_of(
        openai_clip(openai_names(theirs.vision_model.state_dict())), size,
        patch, width, layers)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        hidden = theirs(pixel_values=images).last_hidden_state
        tokens = theirs.vision_model.post_layernorm(hidden)
        torch.testing.assert_close(
            ours(images)[-1], tokens, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name, size, patch, width, layers', SIZES[:2])
def test_features_equal_those_of_timm(name, size, patch, width, layers):
    theirs = timm_vit(width, layers)
    ours = backbone_of(
        dino(theirs.state_dict()), size, patch, width, layers, dino_teacher())
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        tokens = theirs.forward_features(images)  # after its last norm
        torch.testing.assert_close(
            ours(images)[-1], tokens, rtol=1e-4, atol=1e-4)


def test_whole_checkpoint_of_dino_gives_its_teacher(tmp_path):
    file, teacher, head = tmp_path / 'file.pth', vit(), torch.zeros(1)
    saved = dict(  # as main_dino.py does
        student=prefixed('module.backbone.', vit()),
        teacher=prefixed('backbone.', teacher),
        optimizer=dict(param_groups=[dict(lr=np.float64(5e-4))]),
        epoch=100,
        args=argparse.Namespace(arch='vit_base'))
    saved['teacher'] |= {'head.mlp.0.bias': head, 'head.last_layer.bias': head}
    torch.save(saved, file)
    converted = dino(checkpoints.state_dict_of(checkpoints.load(file), file))
    expected = dino(teacher)
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[k], expected[k]) for k in expected)
    assert expected.keys() == dino(saved['student']).keys()


def prefixed(prefix, weights):
    return {prefix + key: value for key, value in weights.items()}


def randomise(module):
    with torch.no_grad():
        for param in module.parameters():
            if param.ndim == 1:  # norms and biases start too tame
                param.add_(0.1 * torch.randn_like(param))


def backbone_of(weights, size, patch, width, layers, teacher=None):
    config = (teacher or clip_teacher()).backbone
    small = layers < 12
    config.update(
        arch=arch(width, layers, width // 64) if small else size,
        patch_size=patch,
        img_size=224)
    backbone = MODELS.build(config)
    backbone.load_state_dict(weights, strict=True)
    backbone.eval()
    return backbone


def openai_names(weights):
    """transformers' names of a CLIP image tower, back to OpenAI's."""
    renamed = {}
    for key, value in weights.items():
        for theirs, openai in {
                'embeddings.class_embedding': 'class_embedding',
                'embeddings.patch_embedding': 'conv1',
                'embeddings.position_embedding.weight': 'positional_embedding',
                'pre_layrnorm': 'ln_pre',
                'post_layernorm': 'ln_post',
                'encoder.layers': 'transformer.resblocks',
                'layer_norm': 'ln_',
                'mlp.fc1': 'mlp.c_fc',
                'mlp.fc2': 'mlp.c_proj',
                'self_attn': 'attn',
        }.items():
            key = key.replace(theirs, openai)
        renamed[f'visual.{key}'] = value
    for key in [k for k in renamed if '.q_proj.' in k]:
        parts = [
            renamed.pop(key.replace('q_proj', f'{x}_proj')) for x in 'qkv'
        ]
        renamed[key.replace('.q_proj.', '.in_proj_')] = torch.cat(parts)
    renamed.pop('visual.embeddings.position_ids', None)
    return renamed
