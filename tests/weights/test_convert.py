"""Foreign weights: the features of their own library, or a refusal."""
import argparse
import os
from functools import partial

import numpy as np
import pytest
import torch
from helpers.commands import refused
from helpers.foreign import (TINY, hf_clip, hf_kwargs, hf_vit, hf_weights,
                             mae_decoder, open_clip_model, open_clip_tokens,
                             resnet, timm_vit)
from helpers.models import arch, small_teacher
from helpers.openai_clip import Clip
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.launch.config_options import override
from mmfd.weights import checkpoints, strict_loading
from mmfd.weights.convert import CONVERTERS, convert, note
from mmfd.weights.published import PUBLISHED

BASE = dict(width=768, layers=12, patch=16, size=224)
LARGE = dict(width=1024, layers=24, patch=14, size=224)
LARGE_336 = dict(LARGE, size=336)


def full(size, name):
    return pytest.param(size, marks=pytest.mark.full, id=name)


SIZES = [pytest.param(TINY, id='tiny'), full(BASE, 'base')]
CLIP_SIZES = [
    *SIZES,
    full(LARGE, 'large'),
    full(LARGE_336, 'large at 336'),
]


def assert_features(converted, base, size, theirs, **changes):
    """What was converted gives their tokens in the backbone of a base."""
    config = Config.fromfile(f'configs/_base_/teachers/{base}.py').teacher
    config.backbone.update(
        arch=arch(size['width'], size['layers'], size['width'] // 64),
        img_size=size['size'],
        patch_size=size['patch'],
        **changes)
    ours = MODELS.build(config.backbone)
    backbone = {k: v for k, v in converted.items() if k[:5] != 'head.'}
    ours.load_state_dict(backbone, strict=True)
    ours.eval()
    images = torch.randn(2, 3, size['size'], size['size'])
    with torch.no_grad():
        tokens, expected = ours(images)[-1], theirs(images)
    assert tokens.shape == expected.shape
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)


# --- open_clip ---


@pytest.mark.parametrize('size', CLIP_SIZES)
def test_features_equal_those_of_open_clip(size):
    model = open_clip_model(size)
    weights = CONVERTERS['open-clip'](model.state_dict())
    assert_same(CONVERTERS['openai-clip'](model.state_dict()), weights)
    assert_features(weights, 'clip_vitb16', size, open_clip_tokens(model))


def test_laions_need_the_key_that_the_note_names():
    key = 'model.teacher.backbone.layer_cfgs.act_cfg.type'
    override(Config.fromfile('configs/fd/clip_vitb_fd.py'), {key: 'GELU'})
    model = open_clip_model(TINY, quick_gelu=False)
    for kind in 'open-clip', 'openai-clip':
        assert f'{key}=GELU' in note(kind, model.state_dict())
    assert note('openai-clip', Clip().state_dict()) == ''
    weights = CONVERTERS['open-clip'](model.state_dict())
    assert_features(
        weights,
        'clip_vitb16',
        TINY,
        open_clip_tokens(model),
        layer_cfgs=dict(act_cfg=dict(type='GELU')))
    with pytest.raises(AssertionError, match='not close'):
        assert_features(weights, 'clip_vitb16', TINY, open_clip_tokens(model))


def test_training_checkpoint_of_open_clip_is_read_too(tmp_path):
    weights, file = open_clip_model(TINY).state_dict(), tmp_path / 'epoch.pt'
    torch.save(
        dict(
            epoch=1,
            name='run',
            state_dict={
                f'module.{k}': v
                for k, v in weights.items()
            }), file)
    saved = checkpoints.state_dict_of(checkpoints.load(file), file)
    assert_same(convert('open-clip', saved), CONVERTERS['open-clip'](weights))


def assert_same(ours, expected):
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[k], expected[k]) for k in expected)


# --- transformers ---


@pytest.mark.parametrize('size', CLIP_SIZES)
def test_features_equal_those_of_transformers_clip(size):
    theirs = hf_clip(size)

    def tokens(images):
        hidden = theirs(pixel_values=images).last_hidden_state
        tower = getattr(theirs, 'vision_model', theirs)  # transformers 4, 5
        return tower.post_layernorm(hidden)

    assert_features(CONVERTERS['hf-clip'](hf_weights(theirs)), 'clip_vitb16',
                    size, tokens)


@pytest.mark.parametrize('name',
                         ['CLIPModel', 'CLIPVisionModelWithProjection'])
def test_clip_of_transformers_is_the_same_in_every_class(name):
    whole = hf_clip(TINY, name)
    tower = {
        k: v
        for k, v in hf_weights(whole).items() if k.startswith('vision_model.')
    }
    old = dict(  # of transformers before 4.31
        hf_weights(whole),
        **{'vision_model.embeddings.position_ids': torch.arange(17)[None]})
    assert_same(CONVERTERS['hf-clip'](old), CONVERTERS['hf-clip'](tower))


@pytest.mark.parametrize('size', SIZES)
def test_features_equal_those_of_transformers_vit(size):
    theirs = hf_vit(size)
    assert_features(
        CONVERTERS['hf-vit'](hf_weights(theirs)), 'dino_vitb16', size,
        lambda images: theirs(pixel_values=images).last_hidden_state)


def test_vit_of_transformers_is_the_same_below_a_classifier_and_a_decoder():
    classifier = hf_vit(TINY, 'ViTForImageClassification', num_labels=5)
    converted = CONVERTERS['hf-vit'](hf_weights(classifier))
    assert torch.equal(
        converted.pop('head.weight'), classifier.classifier.weight)
    assert torch.equal(converted.pop('head.bias'), classifier.classifier.bias)
    assert_same(converted, CONVERTERS['hf-vit'](hf_weights(classifier.vit)))
    mae = hf_vit(
        TINY,
        'ViTMAEForPreTraining',
        decoder_hidden_size=32,
        decoder_num_attention_heads=1,
        decoder_num_hidden_layers=1,
        decoder_intermediate_size=32)
    assert_same(CONVERTERS['hf-vit'](hf_weights(mae)),
                CONVERTERS['hf-vit'](hf_weights(mae.vit)))


# --- timm, and the names that others took from it ---


@pytest.mark.parametrize('kind, base', [
    ('dino', 'dino_vitb16'),
    ('deit', 'deit_vitb16'),
    ('mae', 'mae_vitb16'),
    ('timm', 'deit_vitb16'),
])
@pytest.mark.parametrize('size', SIZES)
def test_features_equal_those_of_timm(size, kind, base):
    theirs = timm_vit(size, classes=5 if kind in ('deit', 'timm') else 0)
    weights = theirs.state_dict()
    if kind == 'mae':
        weights = mae_decoder(weights)
    assert_features(CONVERTERS[kind](weights), base, size,
                    theirs.forward_features)


@pytest.mark.parametrize('size', CLIP_SIZES)
def test_features_equal_those_of_clip_in_timm(size):
    from timm.layers import QuickGELU
    theirs = timm_vit(
        size,
        classes=16,
        pre_norm=True,
        act_layer=QuickGELU,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5))
    weights = theirs.state_dict()
    assert 'norm_pre.weight' in weights
    assert 'patch_embed.proj.bias' not in weights
    assert_features(CONVERTERS['timm'](weights), 'clip_vitb16', size,
                    theirs.forward_features)


def test_whole_checkpoint_of_dino_gives_its_teacher(tmp_path):
    file, head = tmp_path / 'file.pth', torch.zeros(1)
    student, teacher = (timm_vit().state_dict() for _ in range(2))
    saved = dict(  # as main_dino.py does
        student={
            f'module.backbone.{k}': v
            for k, v in student.items()
        },
        teacher={
            **{
                f'backbone.{k}': v
                for k, v in teacher.items()
            }, 'head.mlp.0.bias': head,
            'head.last_layer.bias': head
        },
        optimizer=dict(param_groups=[dict(lr=np.float64(5e-4))]),
        epoch=100,
        args=argparse.Namespace(arch='vit_base'))
    torch.save(saved, file)
    weights = checkpoints.state_dict_of(checkpoints.load(file), file)
    dino = CONVERTERS['dino']
    assert_same(dino(weights), dino(teacher))
    assert_same(dino(saved['student']), dino(student))


# --- the teachers' configs, from the files that they name ---


def published(kind, **kwargs):
    """Random weights in the form that a kind is published in."""
    if kind == 'openai-clip':
        return Clip(**kwargs).state_dict()
    vit = timm_vit(classes=5 if kind == 'deit' else 0)
    return dict(model=vit.state_dict()) if kind != 'dino' else vit.state_dict()


SOURCES = ('clip_vitb16', 'clip_vitl14', 'clip_vitl14_336', 'dino_vitb16',
           'deit_vitb16', 'mae_vitb16', 'esvit_swinb', 'swinv2b', 'swinv2l')


@pytest.mark.parametrize('name', SOURCES)
def test_source_of_a_teacher_is_a_command_for_a_published_file(name):
    teacher = Config.fromfile(f'configs/_base_/teachers/{name}.py').teacher
    tool, kind, url, dst = teacher.source.split()[-4:]
    [row] = [row for row in PUBLISHED if row.url == url]
    assert (tool, kind, dst) == ('tools/convert.py', row.kind,
                                 teacher.checkpoint)
    assert row.licence in teacher.source
    assert not row.note or 'may be gone' in teacher.source


@pytest.mark.parametrize('name', SOURCES[:6])
def test_teacher_is_built_from_the_form_that_is_published(tmp_path, name):
    kind = Config.fromfile(
        f'configs/_base_/teachers/{name}.py').teacher.source.split()[-3]
    file, converted = tmp_path / 'file.pth', tmp_path / 'teacher.pth'
    torch.save(published(kind), file)
    weights = checkpoints.state_dict_of(checkpoints.load(file), file)
    checkpoints.save(convert(kind, weights), converted, {})
    teacher = MODELS.build(small_teacher(name, converted, layers=2))
    target = teacher(255 * torch.rand(2, 3, 32, 32))
    assert target.shape == (2, 17, 128)
    assert target.mean(-1).abs().max() < 1e-5


def test_classifier_stays_beside_the_backbone_for_who_asks(tmp_path):
    theirs, file = timm_vit(classes=5), tmp_path / 'deit.pth'
    checkpoints.save(convert('deit', theirs.state_dict()), file, {})
    backbone = MODELS.build(
        small_teacher('deit_vitb16', file, layers=2).backbone)
    strict_loading.load_into(backbone, file)  # has no use for it
    backbone.eval()
    head = torch.nn.Linear(128, 5)
    strict_loading.load_into(head, file, prefix='head.')
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = head(backbone(images)[-1][:, 0])
        torch.testing.assert_close(
            logits, theirs(images), rtol=1e-4, atol=1e-4)


# --- every tensor is used once or named as left out ---

SAMPLES = {  # kind -> state dict, and what is left out of it on purpose
    'deit': (lambda: timm_vit(classes=5).state_dict(), ()),
    'dino': (lambda: {
        **timm_vit().state_dict(), 'head.mlp.0.bias': torch.zeros(1)
    }, ('head.', )),
    'hf-clip': (lambda: hf_weights(hf_clip(TINY, 'CLIPModel')),
                ('text_model.', 'text_projection.', 'visual_projection.',
                 'logit_scale')),
    'hf-vit': (lambda: hf_weights(hf_vit(TINY)), ('pooler.', )),
    'mae': (lambda: mae_decoder(timm_vit().state_dict()),
            ('mask_token', 'decoder_')),
    'open-clip': (lambda: open_clip_model(TINY).state_dict(),
                  ('visual.proj', 'transformer.', 'token_embedding.',
                   'positional_embedding', 'ln_final.', 'text_projection',
                   'logit_scale')),
    'openai-clip': (lambda: Clip().state_dict(),
                    ('visual.proj', 'transformer.', 'token_embedding.',
                     'positional_embedding', 'ln_final.', 'text_projection',
                     'logit_scale', 'input_resolution')),
    'timm': (lambda: timm_vit(classes=5, pre_norm=True).state_dict(), ()),
}


@pytest.mark.parametrize('kind', SAMPLES)
def test_every_number_of_a_file_arrives_once_or_is_left_out_by_name(kind):
    make, left_out = SAMPLES[kind]
    start, weights = 0, {}
    for key, value in make().items():  # every number another
        weights[key] = torch.arange(
            start, start + value.numel(), dtype=torch.float).view(value.shape)
        start += value.numel()
    assert start < 2**24  # whole in fp32
    kept = {k: v for k, v in weights.items() if not k.startswith(left_out)}
    assert all(any(k.startswith(x) for k in weights) for x in left_out)

    def numbers(tensors):
        return torch.cat([t.flatten() for t in tensors.values()]).sort()[0]

    assert torch.equal(numbers(convert(kind, weights)), numbers(kept))


# --- bad input ---


def swin():
    import timm
    return timm.models.SwinTransformer(
        img_size=32,
        window_size=2,
        embed_dim=16,
        depths=(1, 1),
        num_heads=(1, 1)).state_dict()


def swinv2():
    import timm
    return timm.models.SwinTransformerV2(
        img_size=32,
        window_size=2,
        embed_dim=16,
        depths=(1, 1),
        num_heads=(1, 1)).state_dict()


def beit():
    import timm
    return timm.models.Beit(
        img_size=32, patch_size=8, embed_dim=64, depth=1,
        num_heads=1).state_dict()


def clip_resnet():
    import open_clip
    return open_clip.model.CLIP(
        embed_dim=32,
        vision_cfg=open_clip.model.CLIPVisionCfg(
            layers=(1, 1, 1, 1), width=16, image_size=32),
        text_cfg=open_clip.model.CLIPTextCfg(
            context_length=8, vocab_size=9, width=64, heads=1,
            layers=1)).state_dict()


def distilled():
    import timm
    return timm.models.deit.VisionTransformerDistilled(
        img_size=32,
        patch_size=8,
        embed_dim=64,
        depth=1,
        num_heads=1,
        num_classes=5).state_dict()


def hf_distilled():
    import transformers
    return hf_weights(
        transformers.DeiTModel(transformers.DeiTConfig(**hf_kwargs(TINY))))


def vit(**kwargs):
    return lambda: timm_vit(**kwargs).state_dict()


def swiglu():
    from timm.layers import SwiGLU
    return timm_vit(mlp_layer=SwiGLU).state_dict()


def half(make, dtype=torch.float16):
    return lambda: {k: v.to(dtype) for k, v in make().items()}


def without(make, key):

    def made():
        weights = make()
        del weights[key]
        return weights

    return made


def in_mm_names():
    return convert('dino', timm_vit().state_dict())


def clip_twice():
    weights = Clip().state_dict()
    return {**weights, **{f'module.{k}': v for k, v in weights.items()}}


REFUSED = [
    # another family, and the kind that takes it
    ('openai-clip', resnet, "OpenAI's CLIP ViT, which has no 'conv1.weight'$"),
    ('openai-clip', clip_resnet,
     "'visual.layer1.*: it is a CLIP ResNet; only"),
    ('open-clip', clip_resnet, "'visual.layer1.*: it is a CLIP ResNet; only"),
    ('deit', swin, 'V1. Kind esvit or swin takes it'),
    ('timm', swinv2, 'it is a Swin Transformer V2. Kind swinv2 takes it'),
    ('swin', swinv2, 'it is a Swin Transformer V2. Kind swinv2 takes it'),
    ('swinv2', beit, 'as EVA, EVA-02 and BEiT are'),
    ('swin', vit(), "no 'cls_token'. Kind dino or mae or timm takes it"),
    ('mae', beit, "not MAE's pre-trained ViT, .* EVA-02 and BEiT are"),
    ('dino', lambda: Clip().state_dict(),
     "no 'positional_embedding'. Kind open-clip or openai-clip takes it"),
    ('openai-clip', lambda: hf_weights(hf_clip(TINY)),
     "no 'embeddings.*Kind hf-clip takes it"),
    ('hf-vit', lambda: hf_weights(hf_clip(TINY)), 'Kind hf-clip takes it'),
    ('hf-clip', lambda: hf_weights(hf_vit(TINY)), 'Kind hf-vit takes it'),
    ('dino', vit(classes=5),
     "DINO's ViT, .* no 'head.weight'. Kind deit or timm takes it"),
    ('deit', vit(), "nothing in it becomes 'head.weight'. Kind dino or mae"),
    ('dino', vit(pre_norm=True), "'norm_pre.weight'. Kind timm takes it"),
    ('deit', in_mm_names, 'it is already in mm names'),
    ('dino', lambda: dict(logit_scale=torch.ones(1)), "no 'logit_scale'$"),
    # the same family, another member
    ('mae', vit(global_pool='avg', classes=5),
     "no 'fc_norm.weight': it is fine-tuned on the mean of its patches"),
    ('deit', distilled, "no 'dist_token': it is a distilled DeiT"),
    ('timm', distilled, "no 'dist_token': it is a distilled DeiT"),
    ('hf-vit', hf_distilled, 'it is a distilled DeiT'),
    ('timm', vit(reg_tokens=4), "no 'reg_token': it is a ViT with register"),
    ('timm', swiglu, 'it is a ViT with SwiGLU'),
    ('timm', vit(init_values=1e-5), "no 'blocks.0.ls1.gamma': .* layer scale"),
    ('timm', vit(qk_norm=True), 'normalises its queries and keys'),
    ('timm', vit(class_token=False, global_pool='avg'), 'fc_norm'),
    ('timm', vit(no_embed_class=True), '16 positions are not a cls token'),
    # half of it
    ('openai-clip',
     without(lambda: Clip().state_dict(),
             'visual.class_embedding'), "becomes 'cls_token'"),
    ('dino', without(vit(), 'norm.weight'), "becomes 'ln1.weight'"),
    ('hf-vit',
     without(lambda: hf_weights(hf_vit(TINY)),
             'encoder.layer.0.attention.attention.key.bias'),
     "query, key or value is missing for 'layers.0.attn.qkv.bias'"),
    ('open-clip', clip_twice, "no 'module.positional_embedding'"),
    # rounded
    ('dino', half(vit()), "is in torch.float16, and DINO's ViT is published "
     'in torch.float32: this copy has lost digits'),
    ('deit', half(vit(classes=5)), "'cls_token' is in torch.float16"),
    ('mae', half(vit(), torch.bfloat16), "'cls_token' is in torch.bfloat16"),
]


@pytest.mark.parametrize('kind, make, message', REFUSED)
def test_weights_of_another_kind_are_refused_by_name(kind, make, message):
    with pytest.raises(Refused, match=message):
        convert(kind, make())


@pytest.mark.parametrize('kind', ['openai-clip', 'open-clip', 'hf-clip'])
def test_clip_is_published_in_half_precision_and_becomes_whole(kind):
    weights = SAMPLES[kind][0]()
    rounded = {key: value.half() for key, value in weights.items()}
    converted, whole = convert(kind, rounded), convert(kind, weights)
    for key, value in converted.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, whole[key].half().float())


def test_refusal_is_one_message_with_the_file_and_nothing_is_written(tmp_path):
    file = tmp_path / 'file.pth'
    torch.save(dict(model=timm_vit(classes=5).state_dict()), file)
    message = refused('convert', 'dino', file, tmp_path / 'out.pth')
    assert message.startswith(f"error: {file}: this is not DINO's ViT")
    assert message.endswith('Kind deit or timm takes it')
    assert os.listdir(tmp_path) == ['file.pth']


def test_screen_is_not_steered_by_a_name_in_a_file(tmp_path):
    torch.save({'\x1b[2J\x1b[31mall is well': torch.ones(1)},
               tmp_path / 'weights.pth')
    message = refused('convert', 'mae', tmp_path / 'weights.pth',
                      tmp_path / 'out.pth')
    assert '\x1b' not in message and 'all is well' in message


def test_number_of_too_many_digits_in_a_name_is_refused():
    weights = {f'layers.{"9" * 5000}.downsample.norm.bias': torch.ones(4)}
    with pytest.raises(Refused, match="no 'layers.9{90,92}'"):
        convert('swin', swin() | weights)


@pytest.mark.parametrize('name, size, message', [
    ('clip_vitb16', dict(width=192, layers=4), 'of another size .*cls_token'),
    ('clip_vitb16', dict(patch=4, img_size=16), 'patch_embed.projection'),
    ('clip_vitb16', dict(layers=4), 'has layers.2.attn'),
    ('clip_vitl14', dict(img_size=48), r'pos_embed is \[1, 37, 128\] in the '
     r'file and \[1, 17, 128\] in the network. Set arch, img_size'),
])
def test_file_of_another_size_of_the_family_is_refused_when_it_is_loaded(
        tmp_path, name, size, message):
    """As L where B is expected."""
    weights = convert('openai-clip', Clip(**size).state_dict())
    checkpoints.save(weights, tmp_path / 'clip.pth', {})
    with pytest.raises(Refused, match=message):
        MODELS.build(small_teacher(name, tmp_path / 'clip.pth', layers=2))
