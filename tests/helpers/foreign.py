"""Tiny networks of other libraries, with random weights."""
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from helpers.models import randomise

from mmfd.weights import checkpoints

TINY = dict(width=128, layers=2, patch=8, size=32)


def skip_without(kind):
    """Skip a test if transformers is older than a `model_type` of it."""
    import transformers
    if kind not in transformers.CONFIG_MAPPING:
        pytest.skip(f'transformers {transformers.__version__} has no {kind}')


def open_clip_model(size, quick_gelu=True):
    import open_clip
    return randomise(
        open_clip.model.CLIP(
            embed_dim=32,
            vision_cfg=open_clip.model.CLIPVisionCfg(
                layers=size['layers'],
                width=size['width'],
                patch_size=size['patch'],
                image_size=size['size']),
            text_cfg=open_clip.model.CLIPTextCfg(
                context_length=8, vocab_size=9, width=64, heads=1, layers=1),
            quick_gelu=quick_gelu))


def open_clip_tokens(model):
    """All tokens after its last norm, before the projection."""

    def tokens(images):
        seen = []
        hook = model.visual.ln_post.register_forward_hook(
            lambda module, args, out: seen.append(out))
        model.visual.pool_type = 'none'
        model.visual(images)
        hook.remove()
        return seen[0]

    return tokens


def hf_weights(model):
    """The weights of a model of transformers as they are on the hub.

    Since version 5 its networks have other names than these files.
    """
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return checkpoints.load(folder)


def hf_kwargs(size):
    return dict(
        hidden_size=size['width'],
        intermediate_size=4 * size['width'],
        num_hidden_layers=size['layers'],
        num_attention_heads=size['width'] // 64,
        patch_size=size['patch'],
        image_size=size['size'])


def hf_clip(size, name='CLIPVisionModel'):
    import transformers
    if name == 'CLIPModel':
        config = transformers.CLIPConfig(
            vision_config=hf_kwargs(size),
            text_config=dict(
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=1,
                vocab_size=9),
            projection_dim=16)
    else:
        config = transformers.CLIPVisionConfig(
            **hf_kwargs(size), projection_dim=16)
    return randomise(getattr(transformers, name)(config))


def hf_vit(size, name='ViTModel', **kwargs):
    import transformers
    vit = 'ViTMAE' if name.startswith('ViTMAE') else 'ViT'
    config = getattr(transformers, f'{vit}Config')(
        **hf_kwargs(size), layer_norm_eps=1e-6, **kwargs)
    return randomise(getattr(transformers, name)(config))


def timm_vit(size=TINY, classes=0, **kwargs):
    import timm
    return randomise(
        timm.models.VisionTransformer(
            img_size=size['size'],
            patch_size=size['patch'],
            embed_dim=size['width'],
            depth=size['layers'],
            num_heads=size['width'] // 64,
            num_classes=classes,
            **kwargs))


def mae_decoder(weights):
    """What lies beside MAE's encoder, as models_mae.py names it."""
    decoder = timm_vit(dict(TINY, width=64, layers=1)).state_dict()
    return dict(
        weights,
        mask_token=torch.zeros(1, 1, 64),
        decoder_pos_embed=torch.zeros(1, 17, 64),
        **{
            f'decoder_{key}': value
            for key, value in decoder.items()
            if key.startswith(('blocks', 'norm'))
        },
        **{
            f'decoder_{name}.{x}': torch.zeros(2)
            for name in ('embed', 'pred')
            for x in ('weight', 'bias')
        })


def build_exported(exported):
    """The network that the program of an export makes of its file."""
    with TemporaryDirectory() as folder:
        file = Path(folder, 'student.safetensors')
        checkpoints.save(exported.weights, file, {})
        return run_snippet(exported.snippet(file))


def run_snippet(program):
    """Run what an export prints; the network in eval mode, or the features."""
    made = {}
    exec(textwrap.dedent(program), made)
    if 'model' not in made:
        return made['features']
    made['model'].eval()
    return made['model']


def resnet():
    """The weights of a network that is no ViT."""
    from torchvision.models import resnet18
    return resnet18().state_dict()
