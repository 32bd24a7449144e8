"""Three steps of AdamW, ours and the official code's, both beside fp64.

    python benchmarks/official_steps.py ../Feature-Distillation

A small network of each kind, with weights that the official code draws, which
our converter brings over; then three steps on the same images: forward, loss,
clipping and AdamW with each side's own parameter groups, of the config or the
yaml of the paper. The distance of the weights from those of the official code
in fp64 is printed for both in fp32, in parts of how far the steps moved them:
over all weights (rms), and of the weight that is furthest off (max). Needs
`timm` and `yacs` for the official code.
"""
import argparse
import contextlib
import re
import sys
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope
from mmpretrain.structures import DataSample

from mmfd.weights.checkpoints import DERIVED_BUFFERS
from mmfd.weights.convert import convert

STEPS, IMAGES, CLASSES = 3, 4, 7
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


class Case(NamedTuple):
    """A network in both spellings.

    Attributes:
        leaf: our config.
        yaml: the official one, below `configs/`.
        size: side of the images in pixels.
        ours: changes to our config, below `model.backbone`.
        theirs: official options, below `MODEL`.
    """
    leaf: str
    yaml: str
    size: int
    ours: dict
    theirs: dict


def vit(stage, size, ours={}, theirs={}):
    """A ViT of 8-pixel patches, three blocks of width 48."""
    leaf, yaml = dict(
        fd=('fd/dino_vitb_fd', 'pretrain/fd_pretrain__dino_vit_base'),
        finetune=('classification/clip_vitb_fd_in1k',
                  'finetune/fd_finetune__clip_vit_base'))[stage]
    arch = dict(
        embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
    return Case(
        leaf, yaml, size, dict(arch=arch, patch_size=8, **ours), {
            'VIT.PATCH_SIZE': 8,
            'VIT.EMBED_DIM': 48,
            'VIT.DEPTH': 3,
            'VIT.NUM_HEADS': 3,
            **theirs
        })


def swin(stage, size, window, depths=(2, 2, 1), ours={}, theirs={}):
    """A Swin V2 of width 24."""
    leaf, yaml = dict(
        fd=('fd/esvit_swinb_fd', 'pretrain/fd_pretrain__esvit_swin_base'),
        finetune=('classification/esvit_swinb_fd_in1k',
                  'finetune/fd_finetune__esvit_swin_base'))[stage]
    heads = (1, 2, 4)[:len(depths)]
    arch = dict(
        embed_dims=24,
        depths=[*depths],
        num_heads=[*heads],
        extra_norm_every_n_blocks=0)
    return Case(
        leaf, yaml, size,
        dict(
            arch=arch,
            window_size=window,
            out_indices=(len(depths) - 1, ),
            pretrained_window_sizes=[0] * len(depths),
            **ours), {
                'SWIN.EMBED_DIM': 24,
                'SWIN.DEPTHS': [*depths],
                'SWIN.NUM_HEADS': [*heads],
                'SWIN.WINDOW_SIZE': window,
                **theirs
            })


PER_BLOCK = dict(
    ours=dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False),
    theirs={
        'VIT.USE_RPB': True,
        'VIT.USE_SHARED_RPB': False
    })
SHARED = dict(
    ours=dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
    theirs={
        'VIT.USE_RPB': False,
        'VIT.USE_SHARED_RPB': True
    })
NO_CLS = dict(
    ours=dict(with_cls_token=False), theirs={'VIT.WITH_CLS_TOKEN': False})
BARE = dict(
    ours=dict(layer_scale_init_value=0., bias=False, use_abs_pos_emb=True),
    theirs={
        'VIT.INIT_VALUES': None,
        'VIT.QKV_BIAS': False,
        'VIT.USE_APE': True
    })
SHARED_CPB = dict(
    ours=dict(use_shared_rel_pos_bias=True),
    theirs={'SWIN.USE_SHARED_RPB': True})
NO_QKV_BIAS = dict(
    ours=dict(
        stage_cfgs=dict(block_cfgs=dict(attn_cfgs=dict(qkv_bias=False)))),
    theirs={'SWIN.QKV_BIAS': False})
CASES = {
    'ViT, FD, 4 x 4, shared table':
    vit('fd', 32),
    'ViT, FD, 7 x 7, shared table':
    vit('fd', 56),
    'ViT, FD, 5 x 5, table of each block':
    vit('fd', 40, **PER_BLOCK),
    'ViT, FD, 5 x 5, no cls token':
    vit('fd', 40, **NO_CLS),
    'ViT, FD, 5 x 5, no layer scale, no bias of qkv':
    vit('fd', 40, **BARE),
    'ViT, fine-tuning, 4 x 4, table of each block':
    vit('finetune', 32),
    'ViT, fine-tuning, 7 x 7, table of each block':
    vit('finetune', 56),
    'ViT, fine-tuning, 5 x 5, shared table':
    vit('finetune', 40, **SHARED),
    'ViT, fine-tuning, 5 x 5, no cls token':
    vit('finetune', 40, **NO_CLS),
    'Swin V2, FD, 16 x 16, windows of 4':
    swin('fd', 64, 4),
    'Swin V2, FD, 12 x 12, windows of 3':
    swin('fd', 48, 3),
    'Swin V2, FD, 18 x 18, windows of 9':
    swin('fd', 72, 9, (2, 2)),
    'Swin V2, FD, 12 x 12, windows of 3, shared CPB':
    swin('fd', 48, 3, **SHARED_CPB),
    'Swin V2, FD, 12 x 12, no bias of qkv':
    swin('fd', 48, 3, **NO_QKV_BIAS),
    'Swin V2, fine-tuning, 16 x 16, windows of 4':
    swin('finetune', 64, 4),
    'Swin V2, fine-tuning, 28 x 28, windows of 7':
    swin('finetune', 112, 7, (2, 2, 1)),
    'Swin V2, fine-tuning, 20 x 20, windows of 5':
    swin('finetune', 80, 5),
}


def official_model(case, folder):
    """The official network and optimizer, with weights that all matter."""
    import config as defaults
    from models import build_model, feature_distillation
    from models.dino import WarpperVisionTransformer
    from models.esvit import WarpperSwinTransformer
    from optimizer import build_optimizer
    cfg = defaults._C.clone()
    cfg.merge_from_file(f'{folder}/configs/{case.yaml}__img224__300ep.yaml')
    options = {
        f'MODEL.{key}': value
        for key, value in case.theirs.items()
    } | {
        'MODEL.NUM_CLASSES': CLASSES,
        'MODEL.DROP_PATH_RATE': 0.,
        'DATA.IMG_SIZE': case.size
    }
    for name, value in options.items():
        *keys, last = name.split('.')
        node = cfg
        for key in keys:
            node = node[key]
        node[last] = value
    distils = 'pretrain' in case.yaml

    class Dino(WarpperVisionTransformer):  # as many tokens as the student

        def encode_image_featuremap(self, image):
            tokens = super().encode_image_featuremap(image)
            return tokens if cfg.MODEL.VIT.WITH_CLS_TOKEN else tokens[:, 1:]

    def dino(*_, **__):
        return Dino(
            img_size=case.size,
            patch_size=8,
            embed_dim=768,
            depth=1,
            num_heads=12,
            num_classes=0)

    def esvit(*_, **__):
        stages = len(cfg.MODEL.SWIN.DEPTHS)
        model = WarpperSwinTransformer(
            img_size=case.size,
            patch_size=4,
            embed_dim=16 * 2**(4 - stages),
            depths=[1] * stages,
            num_heads=[1] * stages,
            window_size=cfg.MODEL.SWIN.WINDOW_SIZE,
            num_classes=0)
        model.embed_dim = 16  # of which the projection has 8 times as many
        return model

    with patch.multiple(
            feature_distillation, load_dino=dino, load_esvit=esvit):
        model = build_model(cfg, is_pretrain=distils)
    for name, param in model.named_parameters():
        if param.ndim == 1:
            param.data.add_(0.1 * torch.randn_like(param))
        if name.endswith('bias_table'):
            torch.nn.init.normal_(param, std=0.5)
        if name == 'head.weight':
            torch.nn.init.normal_(param, std=0.02)
    model.requires_grad_(True)
    if distils:
        model.feature_model.requires_grad_(False)
    log = SimpleNamespace(info=lambda _: None)
    optim = build_optimizer(cfg, model, log, is_pretrain=distils)
    return model.train(), optim, cfg


def official_steps(model, optim, cfg, pixels, labels):
    """Train for three steps; the weights afterwards."""
    from timm.loss import LabelSmoothingCrossEntropy
    criterion = LabelSmoothingCrossEntropy(0.1)
    for _ in range(STEPS):
        dtype = next(model.parameters()).dtype
        images = (pixels.to(dtype) - MEAN.to(dtype)) / STD.to(dtype)
        outputs = model(images)
        loss = outputs['loss'] if isinstance(outputs, dict) else criterion(
            outputs, labels)
        optim.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.TRAIN.CLIP_GRAD)
        optim.step()
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


@contextlib.contextmanager
def as_double():
    """Let what the official code casts to fp32 be computed in fp64."""
    with patch.object(torch.Tensor, 'float', torch.Tensor.double), \
            patch.object(torch.nn.Module, 'float', torch.nn.Module.double):
        yield


def our_model(case, weights):
    """Our network with the official weights, and its optimizer."""
    cfg = Config.fromfile(f'configs/{case.leaf}.py')
    cfg.model.backbone.update(
        init_cfg=None, drop_path_rate=0., img_size=case.size, **case.ours)
    distils = 'teacher' in cfg.model
    if distils:
        projection = weights['decoder.0.weight'][:, :, 0]
        cfg.model.neck.update(
            out_channels=len(projection), in_channels=projection.shape[1])
        set_teacher(case, cfg.model.teacher)
    else:
        cfg.model.head.update(
            in_channels=weights['head.weight'].shape[1], num_classes=CLASSES)
        cfg.model.train_cfg = None
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    load(model, convert('fd-official', weights))
    if distils:
        load(model.neck.projection,
             dict(weight=projection, bias=weights['decoder.0.bias']))
        teacher = {
            key.removeprefix('feature_model.'): value
            for key, value in weights.items()
            if key.startswith('feature_model.')
        }
        kind = 'esvit' if 'SWIN.DEPTHS' in case.theirs else 'dino'
        load(model.teacher.backbone, convert(kind, teacher))
    wrapper = dict(cfg.optim_wrapper, dtype='float32')
    optim = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=wrapper.pop('constructor'),
            paramwise_cfg=wrapper.pop('paramwise_cfg', None),
            optim_wrapper_cfg=wrapper))
    return model.train(), optim(model)


def set_teacher(case, teacher):
    """Give our teacher the size of the official one."""
    teacher.update(checkpoint='random', img_size=None)
    backbone = teacher.backbone
    backbone.img_size = case.size
    if 'SWIN.DEPTHS' not in case.theirs:
        if not case.ours.get('with_cls_token', True):
            teacher.neck.tokens = 'map'
        backbone.patch_size = 8
        backbone.arch = dict(
            embed_dims=768,
            num_layers=1,
            num_heads=12,
            feedforward_channels=3072)
        return
    stages, window = (
        case.theirs[f'SWIN.{key}'] for key in ('DEPTHS', 'WINDOW_SIZE'))
    stages = len(stages)
    grids = [case.size // 4 // 2**i for i in range(stages)]
    backbone.update(
        arch=dict(
            embed_dims=16 * 2**(4 - stages),
            depths=[1] * stages,
            num_heads=[1] * stages),
        out_indices=(stages - 1, ),
        window_size=window,
        stage_cfgs=[dict(window_size=min(window, grid)) for grid in grids])


def load(module, weights):
    """Load weights that may lack what a network computes itself."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    missing = [
        name for name in missing
        if not re.search('relative_|neck.projection|attn_mask', name)
    ]
    assert not missing and not unexpected, (missing, unexpected)


def our_steps(model, optim, pixels, labels):
    """Train for three steps; the weights afterwards, in our names."""
    samples = [DataSample().set_gt_label(label) for label in labels]
    # images as the pipeline gives them: BGR bytes
    data = dict(inputs=[*pixels.flip(1).byte()], data_samples=samples)
    for _ in range(STEPS):
        model.train_step(data, optim)
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def distance(weights, exact, start):
    """Of weights from exact ones, in parts of the way of these: rms, max."""
    off = torch.cat([(weights[k].double() - exact[k]).flatten()
                     for k in exact])
    moved = torch.cat([(exact[k] - start[k].double()).flatten()
                       for k in exact])
    return ((off.pow(2).mean() / moved.pow(2).mean()).sqrt().item(),
            (off.abs().max() / moved.abs().max()).item())


def compare(case, folder):
    """The distances of the official code and of ours from fp64."""
    torch.manual_seed(0)
    model, optim, cfg = official_model(case, folder)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    pixels = torch.randint(0, 256, (IMAGES, 3, case.size, case.size)).float()
    labels = torch.randint(0, CLASSES, (IMAGES, ))
    theirs = official_steps(model, optim, cfg, pixels, labels)
    with as_double():
        model, optim, _ = official_model(case, folder)
        model.load_state_dict(start)
        exact = official_steps(model.double(), optim, cfg, pixels, labels)
    model, optim = our_model(case, start)
    ours = our_steps(model, optim, pixels, labels)
    theirs, exact, start = in_our_names(theirs, exact, start)
    return distance(theirs, exact, start), distance(ours, exact, start)


def in_our_names(*states):
    """Official weights of any dtype, each number where the converter puts it.

    The projection and the teacher are left out.
    """
    numbers, places = 0, {}
    for name, value in states[0].items():
        if name.startswith(('decoder.', 'feature_model.')):
            continue
        places[name] = value
        if not name.endswith(DERIVED_BUFFERS):
            places[name] = torch.arange(numbers, numbers + value.numel()).view(
                value.shape).float()
            numbers += value.numel()
    assert numbers < 2**24  # whole in fp32
    converted = convert('fd-official', places)
    for state in states:
        flat = torch.cat([
            state[name].flatten() for name in places
            if not name.endswith(DERIVED_BUFFERS)
        ])
        yield {k: flat[v.long()] for k, v in converted.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('folder', help='the official repository')
    parser.add_argument('--only', default='', help='cases that match this')
    args = parser.parse_args()
    sys.path.insert(0, args.folder)
    print(f'{"":50} {"official":>17} {"ours":>17}  ours / official\n'
          f'{"":50} {"rms":>8} {"max":>8} {"rms":>8} {"max":>8}')
    for name, case in CASES.items():
        if re.search(args.only, name):
            theirs, ours = compare(case, args.folder)
            print(f'{name:50} ' + ' '.join(f'{x:8.1e}'
                                           for x in (*theirs, *ours)) +
                  f'  {ours[0] / theirs[0]:.2f} {ours[1] / theirs[1]:.2f}')


if __name__ == '__main__':
    main()
