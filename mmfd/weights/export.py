"""The student in other libraries: timm, and transformers of Hugging Face."""
import json
import re
from typing import NamedTuple

import torch
from mmengine.registry import MODELS
from mmpretrain.models import BEiTViT, SwinTransformerV2
from torch import nn

from mmfd.errors import Refused
from mmfd.weights import checkpoints
from mmfd.weights.meta_device import no_larger


class Exported(NamedTuple):
    weights: dict
    config: dict  # what the network that they fit is built with
    python: str  # how, with {} in the place of that


class Student(NamedTuple):
    backbone: nn.Module
    config: dict  # that built it
    head: dict  # weight and bias of a linear classifier on it, or nothing


def export(path, model, to):
    """What there is to write of the student in a checkpoint.

    Args:
        path (str): file of training or tools/convert.py.
        model (dict): config of the model that was trained; may be empty for
            the backbone alone.
        to (str): `backbone`, in mm names as it is, or a key of `LIBRARIES`.

    Raises:
        Refused: as `checkpoints.load_into`, and if the
            file is not of that config or the library has no such network.
    """
    if to == 'backbone':
        return _backbone(path, model)
    student = _load(path, model)
    weights = student.head | {
        key: value
        for key, value in student.backbone.state_dict().items()
        if not key.endswith(checkpoints.TABLES)
    }
    for family, exporter in LIBRARIES[to].items():
        if isinstance(student.backbone, family):
            return exporter(student, weights)
    raise Refused(
        f'{to} is given BEiT ViTs and Swin V2s, not '
        f'{type(student.backbone).__name__}: export it --to backbone')


def carried_config(path, to):
    """The config of the model that a checkpoint carries; {} if it does not.

    Raises:
        Refused: as `checkpoints.load`, and if a network
            is to be built and its config names what is not in `TRUSTED`.
    """
    carried = checkpoints.meta(path).get('model', '{}')
    try:
        model = dict(json.loads(carried))
        backbone = dict(model.get('backbone', {}))
        strange, numbers = _strange(backbone), sum(_numbers(backbone))
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(f'{path} carries no readable config of its model: '
                      f'{error}') from error
    if strange and to != 'backbone':
        raise Refused(
            f'{path} carries a config that names {min(strange)!r}, which no '
            'file is trusted to call: give the config yourself, --config '
            'configs/....py, or export it --to backbone')
    if backbone and to != 'backbone':
        _check_size(backbone, numbers, path)
    return model


# What a config may name that comes out of a file. The host takes any dotted
# name for a type, imports it and calls it.
TRUSTED = {
    'mmfd.StudentViT', 'mmfd.StudentSwin', 'mmpretrain.BEiTViT',
    'mmpretrain.SwinTransformerV2', 'LN', 'GELU', 'Conv2d'
}
LARGEST = 1_000_000  # all sizes of a carried config together


def _check_size(backbone, numbers, path):
    """Refuse a config of more than its file holds, before that is built."""
    room = sum(f.stat().st_size for f in checkpoints.files_of(path)) + LARGEST
    try:
        if not numbers <= LARGEST:
            raise Refused(f'its numbers add up to more than {LARGEST:,}')
        with no_larger(room), torch.device('meta'):
            MODELS.build(dict(backbone, init_cfg=None))
    except Exception as error:  # a config may make a builder raise anything
        raise Refused(f'{path} carries a config that builds no backbone of '
                      f'its weights: {error}') from error


def _numbers(node):
    """The sizes in a part of a config, NaN where there is none."""
    if isinstance(node, (int, float)):
        yield abs(node)
    elif isinstance(node, (dict, list)):
        for part in node.values() if isinstance(node, dict) else node:
            yield from _numbers(part)


def _strange(node):
    """What a part of a config names beyond `TRUSTED`, and keys of no call."""
    if isinstance(node, dict):
        named = {str(node[k]) for k in ('type', 'conv_type') if k in node}
        named |= {k for k in node if not k.isidentifier() or k == '_scope_'}
        parts = [v for k, v in node.items() if k not in ('type', 'init_cfg')]
    else:
        named = {node} if isinstance(node, str) and '.' in node else set()
        parts = node if isinstance(node, list) else []
    return (named - TRUSTED).union(*map(_strange, parts))


def _backbone(path, model):
    weights = checkpoints.state_dict_of(checkpoints.load(path), path)
    own = {
        key.removeprefix('backbone.'): value
        for key, value in weights.items() if key.startswith('backbone.')
    }
    if not own:
        raise Refused(
            f'{path} holds no student: none of its keys begins with '
            f"'backbone.'; they begin with {', '.join([*weights][:4])}. A "
            'backbone alone is given to --to timm or hf with its --config')
    checkpoints.check_precision(own, path)
    config = dict(model.get('backbone', {}))
    config.pop('init_cfg', None)
    python = 'mmengine.registry.MODELS.build(dict({}))'
    if not config or _strange(config):
        python = 'its config'
    return Exported(own, config, python)


LINEAR = {'head.fc.weight': 2, 'head.fc.bias': 1}  # name -> axes


def _load(path, model):
    if not model.get('backbone'):
        raise Refused(f'{path} does not say of what network its weights '
                      'are: give the config that it was trained with, '
                      '--config configs/....py')
    weights = checkpoints.state_dict_of(checkpoints.load(path), path)
    head = {k: v for k, v in weights.items() if k.startswith('head.fc.')}
    if head and {k: v.dim() for k, v in head.items()} != LINEAR:
        raise Refused(f'{path} has a classifier that is not linear: '
                      f'{", ".join(sorted(head))}')
    names = [*weights]
    del weights  # which are read again, and large
    prefix = 'backbone.' if any(
        name.startswith('backbone.') for name in names) else ''
    config = dict(model['backbone'], init_cfg=None)
    try:
        network = MODELS.build(config)
    except Exception as error:  # a config may make a builder raise anything
        raise Refused('the config builds no backbone: '
                      f'{type(error).__name__}: {error}') from error
    checkpoints.load_into(network, path, prefix)
    norms = tuple(f'{prefix}ln{i}.' for i in (1, 2))  # which it lets differ
    given = {name for name in names if name.startswith(norms)}
    built = {prefix + name for name in network.state_dict()}
    if given != {name for name in built if name.startswith(norms)}:
        raise Refused(
            f'{path} ends in {", ".join(sorted(given)) or "no norm"}, unlike '
            'the config: one is of a distilled network, the other of a '
            'fine-tuned one. Give the config that the file was trained with')
    return Student(network, config, head)


def beit_to_timm(student, weights):
    facts, pooled, eps = _beit(student)
    if eps != 1e-6:
        raise Refused(f"the norms of timm's BEiT have eps 1e-6, not {eps}")
    return Exported(
        _rename(weights, TIMM_BEIT, "timm's BEiT"),
        dict(
            facts,
            num_classes=_classes(student),
            global_pool='avg' if pooled else ''), 'timm.models.beit.Beit({})')


def beit_to_hf(student, weights):
    facts, pooled, eps = _beit(student)
    return _to_hf(
        student, weights, HF_BEIT, 'Beit',
        dict(
            image_size=facts['img_size'],
            patch_size=facts['patch_size'],
            hidden_size=facts['embed_dim'],
            num_hidden_layers=facts['depth'],
            num_attention_heads=facts['num_heads'],
            intermediate_size=round(facts['embed_dim'] * facts['mlp_ratio']),
            layer_norm_eps=eps,
            layer_scale_init_value=facts['init_values'] or 0,
            drop_path_rate=0.,
            use_absolute_position_embeddings=facts['use_abs_pos_emb'],
            use_relative_position_bias=facts['use_rel_pos_bias'],
            use_shared_relative_position_bias=facts['use_shared_rel_pos_bias'],
            use_mean_pooling=pooled))


def _beit(student):
    """What there is to say of a BEiT, in timm's words, and of its norms."""
    backbone = student.backbone
    pooled = backbone.out_type == 'avg_featmap'
    if pooled == backbone.final_norm:
        raise Refused(
            'other libraries end a BEiT with one norm, of all tokens or of '
            f'their mean; here final_norm={backbone.final_norm} and '
            f'out_type={backbone.out_type!r}')
    block, width = backbone.layers[0], backbone.embed_dims
    facts = dict(
        img_size=_side(backbone.img_size),
        patch_size=_side(backbone.patch_embed.projection.kernel_size),
        embed_dim=width,
        depth=backbone.num_layers,
        num_heads=block.attn.num_heads,
        mlp_ratio=backbone.arch_settings['feedforward_channels'] / width,
        init_values=None if block.gamma_1 is None else 0.1,
        use_abs_pos_emb=backbone.pos_embed is not None,
        use_rel_pos_bias=backbone.use_rel_pos_bias,
        use_shared_rel_pos_bias=backbone.rel_pos_bias is not None)
    return facts, pooled, block.ln1.eps


def swin_to_timm(student, weights):
    facts, img_size = _swin(student)
    return Exported(
        _rename(_swin_weights(student, weights), TIMM_SWIN, "timm's Swin V2"),
        dict(facts, img_size=img_size, num_classes=_classes(student)),
        'timm.models.swin_transformer_v2.SwinTransformerV2({})')


def swin_to_hf(student, weights):
    facts, img_size = _swin(student)
    # a merging ends the stage before, not begins its own
    weights = {
        re.sub(r'(?<=^stages\.)\d+(?=\.downsample)', lambda stage: str(
            int(stage[0]) - 1), key):
        value
        for key, value in _swin_weights(student, weights).items()
    }
    return _to_hf(student, weights, HF_SWIN, 'Swinv2',
                  dict(facts, image_size=img_size))


def _swin(student):
    """What there is to say of a Swin V2, in everybody's words."""
    backbone = student.backbone
    windows = [
        _side(stage.blocks[0].attn.w_msa.window_size)
        for stage in backbone.stages
    ]
    side, stages = _side(backbone.patch_resolution), range(len(windows))
    if windows != [min(max(windows), side // 2**stage) for stage in stages]:
        raise Refused(
            'other libraries have one window for all stages, no larger than '
            f'their grids; here the windows are {windows} and the first grid '
            f'is of {side} x {side}')
    patch_size = _side(backbone.patch_embed.projection.kernel_size)
    ffn = backbone.stages[0].blocks[0].ffn.layers[0][0]
    facts = dict(
        patch_size=patch_size,
        embed_dim=backbone.embed_dims,
        depths=[*backbone.depths],
        num_heads=[*backbone.num_heads],
        window_size=max(windows),
        mlp_ratio=ffn.out_features / ffn.in_features,
        drop_path_rate=0.,
        pretrained_window_sizes=[
            *student.config.get('pretrained_window_sizes', [0] * len(windows))
        ])
    return facts, patch_size * side


def _swin_weights(student, weights):
    """One norm, and the columns of mergings as all but the host order them.

    Four patches (row, column) 00 10 01 11, each with its channels; the host
    has 00 01 10 11 of each channel.
    """
    last = f'norm{len(student.backbone.depths) - 1}.'
    ordered = {}
    for key, value in weights.items():
        if key.endswith('.reduction.weight'):
            value = value.unflatten(1, (-1, 2, 2)).permute(0, 3, 2, 1)
            value = value.flatten(1)
        ordered[key.replace(last, 'norm.') if key.
                startswith(last) else key] = value
    return ordered


def _to_hf(student, weights, names, cls, config):
    """transformers: q, k and v apart, and a prefix where there is a head."""
    what, whole = f"transformers' {cls}", f'{cls}Model'
    weights = _rename(_apart(weights), names, what)
    if student.head:
        whole = f'{cls}ForImageClassification'
        config = dict(config, num_labels=_classes(student))
        weights = {
            key if key.startswith('classifier.') else f'{cls.lower()}.{key}':
            value
            for key, value in weights.items()
        }
    return Exported(
        weights, dict(config, model_type=cls.lower(), architectures=[whole]),
        f'transformers.{whole}(transformers.AutoConfig.for_model({{}}))')


def _apart(weights):
    """Three layers where the host has one for query, key and value."""
    parts = {}
    for key, value in weights.items():
        stem = re.sub(r'(qkv\.weight|q_bias|v_bias)$', '', key)
        if key.endswith('qkv.weight'):
            for part, rows in zip(('query', 'key', 'value'), value.chunk(3)):
                parts[f'{stem}{part}.weight'] = rows
        elif stem != key:
            part = 'query' if key.endswith('q_bias') else 'value'
            parts[f'{stem}{part}.bias'] = value
        else:
            parts[key] = value
    return parts


def _classes(student):
    return len(student.head['head.fc.weight']) if student.head else 0


def _side(sizes):
    height, width = sizes
    if height != width:
        raise Refused(f'only squares are exported, not {height} x {width}')
    return height


def _rename(weights, names, what):
    """Host names to another library's, where * is a part without dots."""
    renamed = {}
    for key, value in weights.items():
        for host, theirs in names.items():
            parts = re.fullmatch(
                re.escape(host).replace(r'\*', '([^.]+)'), key)
            if parts:
                break
        else:
            raise Refused(f'{what} has no counterpart of {key!r}: export '
                          'it --to backbone')
        renamed[theirs.replace('*', '{}').format(*parts.groups())] = value
    return renamed


TIMM_BEIT = {
    'cls_token': 'cls_token',
    'pos_embed': 'pos_embed',
    'patch_embed.projection.*': 'patch_embed.proj.*',
    'rel_pos_bias.*': 'rel_pos_bias.*',
    'layers.*.gamma_*': 'blocks.*.gamma_*',
    'layers.*.ln1.*': 'blocks.*.norm1.*',
    'layers.*.ln2.*': 'blocks.*.norm2.*',
    'layers.*.attn.*': 'blocks.*.attn.*',
    'layers.*.attn.qkv.weight': 'blocks.*.attn.qkv.weight',
    'layers.*.attn.proj.*': 'blocks.*.attn.proj.*',
    'layers.*.ffn.layers.0.0.*': 'blocks.*.mlp.fc1.*',
    'layers.*.ffn.layers.1.*': 'blocks.*.mlp.fc2.*',
    'ln1.*': 'norm.*',
    'ln2.*': 'fc_norm.*',
    'head.fc.*': 'head.*',
}
HF_BEIT = {
    'cls_token': 'embeddings.cls_token',
    'pos_embed': 'embeddings.position_embeddings',
    'patch_embed.projection.*': 'embeddings.patch_embeddings.projection.*',
    'rel_pos_bias.*': 'encoder.relative_position_bias.*',
    'layers.*.gamma_*': 'encoder.layer.*.lambda_*',
    'layers.*.ln1.*': 'encoder.layer.*.layernorm_before.*',
    'layers.*.ln2.*': 'encoder.layer.*.layernorm_after.*',
    'layers.*.attn.proj.*': 'encoder.layer.*.attention.output.dense.*',
    'layers.*.attn.*': 'encoder.layer.*.attention.attention.'
    'relative_position_bias.*',
    'layers.*.attn.*.*': 'encoder.layer.*.attention.attention.*.*',
    'layers.*.ffn.layers.0.0.*': 'encoder.layer.*.intermediate.dense.*',
    'layers.*.ffn.layers.1.*': 'encoder.layer.*.output.dense.*',
    'ln1.*': 'layernorm.*',
    'ln2.*': 'pooler.layernorm.*',
    'head.fc.*': 'classifier.*',
}
TIMM_SWIN = {
    'patch_embed.projection.*': 'patch_embed.proj.*',
    'patch_embed.norm.*': 'patch_embed.norm.*',
    'stages.*.downsample.*.*': 'layers.*.downsample.*.*',
    'stages.*.blocks.*.norm1.*': 'layers.*.blocks.*.norm1.*',
    'stages.*.blocks.*.norm2.*': 'layers.*.blocks.*.norm2.*',
    'stages.*.blocks.*.attn.w_msa.*': 'layers.*.blocks.*.attn.*',
    'stages.*.blocks.*.attn.w_msa.*.*': 'layers.*.blocks.*.attn.*.*',
    'stages.*.blocks.*.attn.w_msa.*.*.*': 'layers.*.blocks.*.attn.*.*.*',
    'stages.*.blocks.*.ffn.layers.0.0.*': 'layers.*.blocks.*.mlp.fc1.*',
    'stages.*.blocks.*.ffn.layers.1.*': 'layers.*.blocks.*.mlp.fc2.*',
    'norm.*': 'norm.*',
    'head.fc.*': 'head.fc.*',
}
HF_SWIN = {
    'patch_embed.projection.*':
    'embeddings.patch_embeddings.projection.*',
    'patch_embed.norm.*':
    'embeddings.norm.*',
    'stages.*.downsample.*.*':
    'encoder.layers.*.downsample.*.*',
    'stages.*.blocks.*.norm1.*':
    'encoder.layers.*.blocks.*.layernorm_before.*',
    'stages.*.blocks.*.norm2.*':
    'encoder.layers.*.blocks.*.layernorm_after.*',
    'stages.*.blocks.*.attn.w_msa.proj.*':
    'encoder.layers.*.blocks.*.attention.output.dense.*',
    'stages.*.blocks.*.attn.w_msa.*':
    'encoder.layers.*.blocks.*.attention.self.*',
    'stages.*.blocks.*.attn.w_msa.*.*':
    'encoder.layers.*.blocks.*.attention.self.*.*',
    'stages.*.blocks.*.attn.w_msa.cpb_mlp.*.*':
    'encoder.layers.*.blocks.*.attention.self.continuous_position_bias_mlp.'
    '*.*',
    'stages.*.blocks.*.ffn.layers.0.0.*':
    'encoder.layers.*.blocks.*.intermediate.dense.*',
    'stages.*.blocks.*.ffn.layers.1.*':
    'encoder.layers.*.blocks.*.output.dense.*',
    'norm.*':
    'layernorm.*',
    'head.fc.*':
    'classifier.*',
}
LIBRARIES = {  # library -> family of the host -> function
    'hf': {
        BEiTViT: beit_to_hf,
        SwinTransformerV2: swin_to_hf
    },
    'timm': {
        BEiTViT: beit_to_timm,
        SwinTransformerV2: swin_to_timm
    },
}
