"""Students of other libraries go out as they came in: difference 0."""
import json

import pytest
import torch
import transformers
from helpers.commands import command, refused
from helpers.foreign import build_exported, run_snippet
from helpers.models import randomise, save_trained
from mmengine.registry import MODELS
from PIL import Image

from mmfd.errors import Refused
from mmfd.networks import by_name
from mmfd.recipes.classifier import Classifier
from mmfd.recipes.student import load_student
from mmfd.weights import checkpoints
from mmfd.weights.export import export

VIT = dict(embed_dim=48, depth=2, num_heads=2)


def timm_net(name, img_size=32, **args):
    return dict(
        type='mmfd.TimmNetwork',
        name=name,
        img_size=img_size,
        drop_path_rate=0.1,
        model_args=args)


TIMM = {
    'cls token':
    timm_net('vit_tiny_patch16_224', **VIT),
    'a pair of sizes':
    timm_net('vit_tiny_patch16_224', (32, 48), **VIT),
    'registers':
    timm_net('vit_small_patch14_reg4_dinov2.lvd142m', 28, **VIT),
    'norm after pooling':
    timm_net('vit_base_patch16_clip_224', global_pool='avg', **VIT),
    'attention pooling':
    timm_net('vit_base_patch16_siglip_224', **VIT),
    'rotary':
    timm_net('eva02_tiny_patch14_224', 28, **VIT),
    '(B, h, w, C)':
    timm_net(
        'swin_tiny_patch4_window7_224',
        64,
        embed_dim=24,
        depths=(1, 1),
        num_heads=(1, 2),
        window_size=4),
    'convolutions':
    timm_net('resnet10t'),
    'a norm in its head':
    timm_net('convnext_atto', depths=(1, 1, 1, 1), dims=(8, 16, 24, 48)),
}


def trained(config, folder):
    """The backbone of a config with random weights, and a file of it."""
    torch.manual_seed(0)
    ours = MODELS.build(config)
    randomise(ours)
    ours.eval()
    return ours, save_trained(ours, folder / 'epoch_1.pth')


@pytest.mark.parametrize('name', TIMM)
def test_timm_creates_the_student_from_its_file(tmp_path, name):
    config = TIMM[name]
    ours, file = trained(config, tmp_path)
    exported = export(file, dict(backbone=config), 'timm')
    program = exported.snippet(tmp_path / 'student.safetensors')
    assert f"timm.create_model('{config['name']}'" in program
    assert 'checkpoint_path=' in program
    theirs = build_exported(exported)
    images = torch.randn(2, 3, *(ours.input_size or (32, 32)))
    with torch.no_grad():
        out = theirs.forward_features(images)
        assert torch.equal(out, ours.network.forward_features(images))
        assert out.std() > 0.01


@pytest.mark.parametrize('args', [
    dict(model_name='vit_tiny_patch16_224', img_size=32, **VIT),
    dict(model_name='resnet10t', in_channels=3, drop_path_rate=0.1),
])
def test_timm_creates_what_mmpretrain_has_wrapped(tmp_path, args):
    config = dict(type='mmpretrain.TIMMBackbone', **args)
    ours, file = trained(config, tmp_path)
    theirs = build_exported(export(file, dict(backbone=config), 'timm'))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(theirs.forward_features(images), ours(images)[0])


def test_names_of_a_config_are_looked_up_where_it_says(tmp_path):
    args = dict(model_name='resnet10t', in_channels=3)
    ours, file = trained(
        dict(type='mmpretrain.TIMMBackbone', **args), tmp_path)
    config = tmp_path / 'stock.py'
    config.write_text("default_scope = 'mmpretrain'\n"
                      "model = dict(type='ImageClassifier', backbone=dict("
                      f"type='TIMMBackbone', **{args}))")
    out = tmp_path / 'student.safetensors'
    command('export', file, out, '--to', 'timm', '--config', config)
    weights = checkpoints.state_dict_in(str(out))
    for name, value in ours.timm_model.state_dict().items():
        assert torch.equal(weights[name], value)


SIZES = dict(
    hidden_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=96,
    image_size=32)
HF = {
    'dinov2': dict(SIZES, patch_size=8),
    'dinov2_with_registers': dict(SIZES, patch_size=8),
    'vit': dict(SIZES, patch_size=8),
    'beit': dict(SIZES, patch_size=8),
    'siglip_vision_model': dict(SIZES, patch_size=8),
    'resnet': dict(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1]),
}


@pytest.mark.parametrize('kind', HF)
def test_from_pretrained_loads_the_folder_of_a_student(tmp_path, kind):
    config = dict(
        type='mmfd.HuggingFaceNetwork', config=dict(HF[kind], model_type=kind))
    ours, file = trained(config, tmp_path)
    model = tmp_path / 'model.py'
    model.write_text(f'model = dict(backbone={config!r})')
    printed = command('export', file, tmp_path / 'folder', '--to', 'hf',
                      '--config', model)
    theirs = run_snippet(printed.split('load it by\n')[1])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(
            theirs(images).last_hidden_state,
            ours.network(images).last_hidden_state)
    again, report = transformers.AutoModel.from_pretrained(
        tmp_path / 'folder', output_loading_info=True)
    assert type(again) is type(theirs) and not any(report.values())


@pytest.mark.parametrize('size', [(56, 56), (56, 28)])
def test_folder_prepares_images_as_the_student_is_evaluated(tmp_path, size):
    config = dict(
        type='mmfd.HuggingFaceNetwork',
        config=dict(HF['vit'], model_type='vit', image_size=size))
    normalize = dict(
        type='mmfd.Normalize', mean=[101., 127.5, 13.], std=[50., 60., 70.])
    ours = MODELS.build(config)
    file = tmp_path / 'student.safetensors'
    meta = dict(
        model=json.dumps(dict(normalize=normalize, backbone=config)),
        img_size=json.dumps(size))
    checkpoints.save(
        {
            f'backbone.{name}': value
            for name, value in ours.state_dict().items()
        }, file, meta)
    command('export', file, tmp_path / 'folder', '--to', 'hf')
    values = torch.randint(0, 256, (64, 80, 3), dtype=torch.uint8)
    image = Image.fromarray(values.numpy())  # of the short edge of 56 pixels
    image.save(tmp_path / 'image.png')
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path /
                                                             'folder')
    pixels = theirs(image, return_tensors='pt')['pixel_values']
    student = load_student(file)
    assert student.facts.img_size == size
    read = Classifier(None, [], size).load(
        dict(img_path=str(tmp_path / 'image.png')))['inputs']
    expected = student.normalize(read.flip(0)[None].float())  # from BGR
    assert expected.shape[-2:] == size
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)
    again = by_name.find(f'hf:{tmp_path / "folder"}').facts.statistics()
    assert again['mean'] == pytest.approx(normalize['mean'])
    assert again['std'] == pytest.approx(normalize['std'])


@pytest.mark.parametrize('name, args', [
    ('resnet18', {}),
    pytest.param('convnext_tiny', {}, marks=pytest.mark.full),
    pytest.param('swin_v2_t', {}, marks=pytest.mark.full),
    pytest.param('vgg11', {}, marks=pytest.mark.full),
    pytest.param('vit_b_16', dict(img_size=32), marks=pytest.mark.full),
])
def test_torchvision_loads_a_student_strictly(tmp_path, name, args):
    config = dict(type='mmfd.TorchvisionNetwork', name=name, **args)
    ours, file = trained(config, tmp_path)
    theirs = build_exported(export(file, dict(backbone=config), 'torchvision'))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = ours(images)[0]
        pooled = features[:, 0] if features.ndim == 3 else features.mean(
            (2, 3))
        if name != 'vgg11':  # which pools to 7 x 7 and flattens
            torch.testing.assert_close(theirs(images), pooled)
        else:
            assert torch.equal(theirs.features(images), features)


def test_a_checkpoint_says_itself_of_which_network_it_is(tmp_path):
    config = dict(
        type='mmfd.TimmNetwork', name='resnet10t.c3_in1k', drop_path_rate=0.1)
    ours = MODELS.build(config)
    file = save_trained(ours, tmp_path / 'epoch_1.pth', config)
    printed = command('export', file, tmp_path / 'student.pth', '--to', 'timm')
    theirs = run_snippet(printed.split('load it by\n')[1])
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, ours.network.state_dict()[name])


def test_arguments_that_may_be_paths_are_not_taken_from_a_file(tmp_path):
    config = dict(
        type='mmfd.TimmNetwork',
        name='resnet10t',
        model_args=dict(checkpoint_path='/etc/passwd'))
    ours = MODELS.build(dict(config, model_args=None))
    file = save_trained(ours, tmp_path / 'epoch_1.pth', config)
    answer = refused('export', file, tmp_path / 'student.pth', '--to', 'timm')
    assert "names 'model_args', which no file is trusted" in answer


def test_classifier_of_another_library_is_refused(tmp_path):
    config = timm_net('resnet10t')
    ours = MODELS.build(config)
    ours.head = torch.nn.Module()
    ours.head.fc = torch.nn.Linear(512, 10)
    weights = {
        key if key.startswith('head.') else f'backbone.{key}': value
        for key, value in ours.state_dict().items()
    }
    file = tmp_path / 'epoch_1.pth'
    torch.save(dict(state_dict=weights), file)
    with pytest.raises(Refused, match='classifier of 10 classes'):
        export(file, dict(backbone=config), 'timm')
