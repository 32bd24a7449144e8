"""Networks are found by the names that their libraries give them."""
import json

import pytest
import timm
import torch
from helpers.models import swin_arch
from safetensors.torch import save_file
from timm.models import save_for_hf
from transformers import Dinov2Config, Dinov2Model

from mmfd.errors import Refused
from mmfd.launch import starting_weights
from mmfd.networks import by_name
from mmfd.registry import MODELS
from mmfd.weights import checkpoints

VIT = 'timm:vit_tiny_patch16_224'
HALF = (127.5, ) * 3


def built(named):
    return MODELS.build(named.backbone).eval()


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Empty caches, and no network."""
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE',
                        str(tmp_path / 'hub'))
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder as the hub has it, of a small DINOv2 in bf16."""
    path = tmp_path_factory.mktemp('dinov2')
    torch.manual_seed(0)
    network = Dinov2Model(
        Dinov2Config(
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=3,
            patch_size=14,
            image_size=56)).eval()
    network.bfloat16().save_pretrained(path)
    (path / 'preprocessor_config.json').write_text(
        json.dumps(
            dict(
                image_mean=[0.5] * 3,
                image_std=[0.25] * 3,
                rescale_factor=1 / 255)))
    (path / 'README.md').write_text('---\ntags: [x]\nlicense: mit\n---\n')
    return path, network.float()


def test_file_in_timms_names_gives_timms_features(tmp_path):
    torch.manual_seed(0)
    theirs = timm.create_model('vit_tiny_patch16_224').eval()
    file = tmp_path / 'vit.safetensors'
    save_file(theirs.state_dict(), file)  # with its classifier
    named = by_name.find(f'{VIT}={file}')
    assert named.weights() == named.checkpoint == str(file)
    ours = built(named)
    ours.load_weights(named.checkpoint)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(images)[-1],
            theirs.forward_features(images),
            rtol=0,
            atol=1e-5)
    assert named.facts.mean == named.facts.std == HALF


def test_size_is_that_of_the_network_or_the_one_that_is_asked_for():
    named = by_name.find(VIT, (192, 256))
    assert named.facts.img_size == (224, 224)  # of its weights
    with torch.no_grad():
        assert built(named)(torch.randn(1, 3, 192,
                                        256))[-1].shape == (1, 193, 192)
    with pytest.raises(Refused, match='img_size=200 .* 192 or 208'):
        by_name.find(VIT, 200)


def test_folder_of_the_hub_gives_features_and_facts(folder):
    path, theirs = folder
    named = by_name.find(f'hf:{path}')
    assert named.facts.statistics() == dict(
        type='mmfd.Normalize', mean=[127.5] * 3, std=[63.75] * 3)
    assert (named.facts.patch, named.facts.img_size, named.facts.cls,
            named.facts.licence) == (14, (56, 56), 1, 'mit')
    ours = built(named)
    ours.load_weights(named.weights())  # bf16, used in fp32
    images = torch.randn(2, 3, 42, 70)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(images)[-1],
            theirs(images).last_hidden_state,
            rtol=0,
            atol=1e-5)


@pytest.mark.parametrize('text, message', [
    ('vit_tiny_patch16_224', 'LIBRARY:NAME'),
    ('open_clip:ViT-B-16', 'LIBRARY is timm, hf'),
    ('timm:vit_tiny_patch16_225', 'nearest names are vit_tiny_patch16_224,'),
    ('timm:vit_tiny_patch16_224.nothing', 'it has vit_tiny_patch16_224.aug'),
    ('torchvision:resnet5', 'nearest names are resnet50'),
    ('mm:resnet18', 'nearest names are resnet18_8xb32_in1k'),
    ('mmfd:vitb15', 'no student .* but .*vitb16'),
    ('timm:resnet18=nowhere.pth', 'no weights file nowhere.pth'),
    ('hf:no/such/folder', 'there is no folder no/such/folder'),
])
def test_message_says_what_there_is(text, message):
    with pytest.raises(Refused, match=message):
        by_name.find(text)


def test_swin_of_mmfd_keeps_its_number_of_windows_at_another_size():
    """And the coordinates that its weights know."""
    for size, window in ((None, 14), (224, 14), (256, 16), (192, 12)):
        backbone = by_name.find('mmfd:swinv2b', size).backbone
        assert backbone['window_size'] == window
    assert backbone['pretrained_window_sizes'] == [14, 14, 14, 7]
    backbone['arch'] = swin_arch()
    network = MODELS.build(dict(backbone, pretrained_window_sizes=[14] * 3))
    assert [
        block.attn.w_msa.window_size[0] for stage in network.stages
        for block in stage.blocks
    ] == [12, 12, 12, 12]
    with pytest.raises(Refused, match='240 is not a multiple of 32'):
        by_name.find('mmfd:swinv2b', 240)


def test_network_that_always_pools_is_one_message():
    with pytest.raises(
            Refused,
            match='no coat_tiny .* that gives all its features: .*po'):
        built(by_name.find('timm:coat_tiny'))


@pytest.mark.parametrize('name, args, message', [
    ('test_resnet', dict(features_only=True), 'that gives all its features'),
    ('test_resnet', dict(in_chans=1), 'takes images of 1 channels, and those'),
    ('pit_ti_224', {}, 'gives 1 tokens .*, it gives no whole map, and can be'),
    ('test_vit', dict(patch_drop_rate=.5), 'gives 51 tokens .* no whole map'),
])
def test_network_of_timm_without_a_map_is_one_message(name, args, message):
    with pytest.raises(Refused, match=message), torch.no_grad():
        network = MODELS.build(
            dict(type='mmfd.TimmNetwork', name=name, model_args=args))
        size = network.facts.img_size
        network.train()(torch.zeros(1, 3, *size))


@pytest.mark.parametrize('name, parameter, trained', [
    ('test_efficientnet', 'conv_head.weight', True),
    ('mobilenetv3_small_050', 'conv_head.weight', False),
    ('lowformer_b0', 'in_conv.conv.weight', False),
])
def test_what_takes_part_in_the_features_is_trained(name, parameter, trained):
    network = MODELS.build(dict(type='mmfd.TimmNetwork', name=name))
    of_timm = dict(network.network.named_parameters())
    assert of_timm[parameter].requires_grad == trained
    assert network.training
    features = network(torch.randn(2, 3, 64, 64))[-1]
    (features * torch.randn_like(features)).sum().backward()
    assert all(p.requires_grad == (p.grad is not None)
               for p in of_timm.values())


def test_network_of_several_maps_is_one_message():
    network = built(by_name.find('timm:efficientvim_m1'))
    with pytest.raises(Refused, match='gives a .* in place of tokens or of'):
        network(torch.zeros(1, 3, 224, 224))


@pytest.mark.parametrize('name, asked, size, patch', [
    ('mm:resnet18_8xb16_cifar10', None, (32, 32), 8),
    ('mm:vit-base-p14_dinov2-pre_3rdparty', None, (518, 518), 14),
    ('mm:swinv2-tiny-w8_3rdparty_in1k-256px', None, (256, 256), 32),
    ('mm:resnet18_8xb32_in1k', 200, (224, 224), 32),
    ('torchvision:resnet18', 200, (224, 224), 32),
    ('torchvision:efficientnet_b3', None, (300, 300), 32),
])
def test_facts_are_of_the_weights_whatever_size_is_asked_for(
        name, asked, size, patch):
    facts = by_name.find(name, asked).facts
    assert (facts.img_size, facts.patch) == (size, patch)


@pytest.mark.parametrize('name, size, message', [
    ('mm:deit-tiny_4xb256_in1k', 200, '200 is not a multiple .* 192 or 208'),
    ('mm:swinv2-tiny-w8_3rdparty_in1k-256px',
     (192, 256), 'takes no images of 192 x 256 pixels: .*window'),
    ('timm:test_vit', 0, 'img_size=0: expected is a side'),
    ('timm:test_vit', 160., 'img_size=160.0: expected is a side'),
    ('timm:test_vit', '160', "img_size='160': expected is a side"),
    ('timm:test_vit', [160], r'img_size=\[160\]: expected is a side'),
    ('timm:test_vit', (160, -160), 'expected is a side, or .height, width'),
])
def test_size_that_a_network_does_not_take_is_one_message(name, size, message):
    with pytest.raises(Refused, match=message):
        by_name.find(name, size)


@pytest.mark.parametrize('config, processor, message', [
    (dict(model_type='no', vision_config=dict(a=1)), {}, "model_type='no'"),
    (dict(model_type='bert', vision_config=dict(a=1)), {}, "type='bert'"),
    (None, dict(image_mean='x', image_std=[1] * 3), 'image_mean=x'),
    (None, dict(image_mean=.5, image_std=.5), 'image_mean=0.5'),
    (None, dict(image_mean=[.5], image_std=[.5]), '3 numbers each are'),
    (None, dict(image_mean=[.5] * 3, image_std=[0] * 3), 'deviation .* above'),
    (None, dict(image_mean=[.5] * 3, image_std=[.5] * 3,
                rescale_factor=0), 'rescale_factor=0'),
])
def test_folder_that_says_what_cannot_be_is_one_message(
        config, processor, message, tmp_path):
    config = config or dict(model_type='vit')
    for name, said in ('config', config), ('preprocessor_config', processor):
        (tmp_path / f'{name}.json').write_text(json.dumps(said))
    with pytest.raises(Refused, match=message):
        by_name.find(f'hf:{tmp_path}')


@pytest.mark.parametrize('changed, size, message', [
    (dict(num_channels=4), (32, 32), 'takes images of 4 channels'),
    (dict(patch_size=[8, 4]), (32, 32), r'patch_size=\[8, 4\] .* are squares'),
    (dict(image_size=[32, 48]), (48, 32), 'built for 32 x 48, whose positi'),
    (dict(image_size=[32, 48]), (32, 48), ''),
    ({}, (32, 48), ''),
])
def test_network_of_transformers_of_other_shapes(changed, size, message):
    config = dict(
        model_type='vit',
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=8)
    made = dict(type='mmfd.HuggingFaceNetwork', config={**config, **changed})
    if not message:
        [tokens] = MODELS.build(made)(torch.zeros(1, 3, *size))
        assert tokens.shape == (1, 1 + 4 * 6, 24)
        return
    with pytest.raises(Refused, match=message):
        MODELS.build(made)(torch.zeros(1, 3, *size))


@pytest.mark.parametrize('text, file', [
    ('timm:vit_small_patch14_dinov2', 'model.safetensors of timm/vit_small'),
    ('torchvision:resnet18', 'resnet18-'),
])
def test_weights_that_are_not_in_the_cache_are_asked_for(text, file, offline):
    named = by_name.find(text)
    with pytest.raises(Refused, match=f'{file}.*NAME=FILE'):
        named.weights()


def test_folder_that_is_not_in_the_cache_is_asked_for(offline):
    with pytest.raises(
            Refused,
            match='config.json of some/network.*HF_HUB_OFFLINE.*hf:FOLDER$'):
        by_name.find('hf:some/network')


def test_file_of_another_network_is_refused(tmp_path):
    file = tmp_path / 'deep.pth'
    weights = timm.create_model('vit_tiny_patch16_224', depth=2).state_dict()
    checkpoints.save(weights, file, {})
    ours = built(by_name.find(VIT))
    with pytest.raises(Refused, match=r'does not fit .*lacks blocks\.2'):
        ours.load_weights(file)


def test_file_of_a_wider_network_is_refused_with_advice_for_it(tmp_path):
    save_file(
        timm.create_model('test_vit3').state_dict(), tmp_path / 'wide.pth')
    ours = built(by_name.find('timm:test_vit'))
    with pytest.raises(Refused, match='of another size .* that its library'):
        ours.load_weights(tmp_path / 'wide.pth')


def test_facts_are_overridden_one_by_one():
    backbone = dict(
        type='mmfd.TimmNetwork',
        name='resnet18',
        facts=dict(mean=[1., 2., 3.], licence='ours'))
    facts = MODELS.build(backbone).facts
    assert (facts.mean, facts.licence, facts.width) == ((1., 2., 3.), 'ours',
                                                        512)
    with pytest.raises(Refused, match="'depth' is no fact"):
        MODELS.build(dict(backbone, facts=dict(depth=3)))


def test_facts_that_contradict_the_network_are_refused():
    network = MODELS.build(
        dict(
            type='mmfd.TimmNetwork',
            name='vit_tiny_patch16_224',
            facts=dict(cls=0),
            model_args=dict(depth=1)))
    with pytest.raises(Refused, match='197 tokens .* cls=0'):
        network(torch.zeros(1, 3, 224, 224))


def test_positions_are_resized_and_half_precision_read_as_timm_does(tmp_path):
    name, args = 'vit_small_patch14_reg4_dinov2', dict(depth=1, img_size=196)
    torch.manual_seed(0)
    published = timm.create_model(name, depth=1).state_dict()
    published = {key: x.bfloat16() for key, x in published.items()}
    save_file(published, tmp_path / 'dinov2.safetensors')
    theirs = timm.create_model(
        name,
        pretrained=True,
        pretrained_cfg_overlay=dict(state_dict={
            key: x.float()
            for key, x in published.items()
        }),
        num_classes=0,
        **args).eval()
    ours = MODELS.build(
        dict(
            type='mmfd.TimmNetwork',
            name=name,
            img_size=196,
            model_args=dict(depth=1))).eval()
    ours.load_weights(tmp_path / 'dinov2.safetensors')
    assert published['pos_embed'].shape[1] == 37 * 37
    images = torch.randn(1, 3, 196, 196)
    with torch.no_grad():
        right = theirs.forward_features(images)
        right = torch.cat((right[:, :1], right[:, 5:]), 1)
        torch.testing.assert_close(ours(images)[-1], right, rtol=0, atol=1e-5)


def test_weights_as_meta_publishes_them_are_read_as_timm_does(tmp_path):
    """DINOv2's own file has a mask token, which timm leaves out."""
    torch.manual_seed(0)
    theirs = timm.create_model(
        'vit_small_patch14_dinov2', depth=1, num_classes=0).eval()
    weights = theirs.state_dict()
    weights['mask_token'] = torch.zeros(1, 384)
    file = tmp_path / 'dinov2_vits14_pretrain.pth'
    torch.save(weights, file)
    expected = timm.create_model(
        'vit_small_patch14_dinov2',
        pretrained=True,
        pretrained_cfg_overlay=dict(state_dict=dict(weights)),
        depth=1,
        num_classes=0,
        img_size=56).state_dict()
    ours = MODELS.build(
        dict(
            type='mmfd.TimmNetwork',
            name='vit_small_patch14_dinov2',
            img_size=56,
            model_args=dict(depth=1)))
    ours.load_weights(file)
    for name, value in ours.network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_folder_that_timm_wrote_is_a_network_of_timm(tmp_path):
    theirs = timm.create_model('vit_tiny_patch16_224', depth=2, num_classes=7)
    said = dict(theirs.pretrained_cfg, mean=[0, 0, 0], license='mit')
    save_for_hf(
        theirs.eval(), tmp_path, model_config=dict(pretrained_cfg=said))
    named = by_name.find(f'hf:{tmp_path}', 96)
    assert named.backbone['model_args']['depth'] == 2
    assert (named.facts.mean, named.facts.licence) == ((0, 0, 0), 'mit')
    built(named).load_weights(named.weights())


@pytest.mark.parametrize('name', ['mm:resnet18_8xb32_in1k', 'timm:test_vit'])
def test_checkpoint_of_a_whole_model_says_its_prefix(name, tmp_path):
    model = torch.nn.ModuleDict(
        dict(
            backbone=MODELS.build(by_name.find(name).backbone),
            neck=torch.nn.Linear(2, 2)))
    file = tmp_path / 'epoch_1.pth'
    checkpoints.save(model.state_dict(), file, {})
    named = by_name.find(f'{name}={file}')
    assert named.prefix() == 'backbone.'
    teacher = MODELS.build(
        dict(
            type='mmfd.Teacher',
            checkpoint=named.weights(),
            prefix=named.prefix(),
            normalize=named.facts.statistics(),
            backbone=named.backbone,
            neck=dict(type='mmfd.WhiteningNeck')))
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(teacher.backbone.state_dict()[key], value), key
    assert by_name.find(f'{name}={file}').checkpoint == str(file)


def test_student_starts_from_a_file_of_its_library(tmp_path):
    theirs = timm.create_model('test_vit')
    save_file(theirs.state_dict(), tmp_path / 'vit.safetensors')
    student = torch.nn.ModuleDict(
        dict(
            backbone=MODELS.build(
                dict(
                    type='mmfd.TimmNetwork',
                    name='test_vit',
                    init_cfg=dict(
                        type='Pretrained',
                        checkpoint=str(tmp_path / 'vit.safetensors'))))))
    starting_weights.load_pretrained(student)
    own = student.backbone.network.state_dict()
    assert all(torch.equal(own[x], theirs.state_dict()[x]) for x in own)
