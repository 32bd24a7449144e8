"""A student of a checkpoint, and what other libraries need to know of it."""
from typing import NamedTuple

from mmengine.registry import MODELS
from torch import nn

from mmfd.errors import Refused
from mmfd.weights import checkpoints, rename, strict_loading

LINEAR = {'head.fc.weight': 2, 'head.fc.bias': 1}  # name -> axes


class LoadedStudent(NamedTuple):
    """A network with the weights of a file.

    Attributes:
        backbone: of mmpretrain or mmfd.
        config: that built it.
        head: `head.fc.weight` and `head.fc.bias` of a linear classifier on
            it, or empty.
        prefix: `backbone.` if the names in the file begin so, or ''.
    """
    backbone: nn.Module
    config: dict
    head: dict
    prefix: str = ''

    @property
    def num_classes(self):
        return len(self.head['head.fc.weight']) if self.head else 0

    def weights(self):
        """All of it by name, without what follows from grid and windows."""
        return self.head | {
            key: value
            for key, value in self.backbone.state_dict().items()
            if not key.endswith(checkpoints.DERIVED_BUFFERS)
        }


def load_student(path, model):
    """Build the student of a checkpoint with its weights.

    Args:
        path (str): with names that begin with `backbone.`, or of a backbone
            alone.
        model (dict): config with a `backbone`.

    Raises:
        Refused: as `strict_loading.load_into`; if the config has no backbone
            or cannot build it; or if it ends in other norms than the file.
    """
    if not model.get('backbone'):
        raise Refused(f'{path} does not say of what network its weights '
                      'are: give the config that it was trained with, '
                      '--config configs/....py')
    weights = checkpoints.state_dict_in(path)
    head = {k: v for k, v in weights.items() if k.startswith('head.fc.')}
    if head and {k: v.dim() for k, v in head.items()} != LINEAR:
        raise Refused(f'{path} has a classifier that is not linear: '
                      f'{", ".join(sorted(head))}')
    names = [*weights]
    del weights  # large, and load_into reads them again
    prefix = rename.prefix_of_backbone(names)
    config = dict(model['backbone'], init_cfg=None)
    try:
        backbone = MODELS.build(config)
    except Exception as error:  # a config may make a builder raise anything
        raise Refused('the config builds no backbone: '
                      f'{type(error).__name__}: {error}') from error
    strict_loading.load_into(backbone, path, prefix)
    _check_last_norm(backbone, prefix, names, path)
    return LoadedStudent(backbone, config, head, prefix)


def _check_last_norm(backbone, prefix, names, path):
    """Compare the last norms, which `load_into` lets differ."""
    norms = tuple(f'{prefix}ln{i}.' for i in (1, 2))
    in_file = {name for name in names if name.startswith(norms)}
    in_network = {prefix + name for name in backbone.state_dict()}
    if in_file != {name for name in in_network if name.startswith(norms)}:
        raise Refused(
            f'{path} ends in {", ".join(sorted(in_file)) or "no norm"}, '
            'unlike the config: one is of a distilled network, the other of '
            'a fine-tuned one. Give the config that the file was trained with')


def beit_facts(student):
    """Describe a BEiT in the words of timm.

    Returns:
        tuple: arguments of `timm.models.beit.Beit` (dict), whether its last
        norm is of the mean of the patches, and the eps of its norms.

    Raises:
        Refused: if it does not end in one norm, is not square, or lacks what
            every BEiT has.
    """
    backbone = student.backbone
    bias = backbone.layers[0].attn.bias
    if backbone.cls_token is None or bias != 'qv_bias':
        raise Refused(
            'other libraries have a cls token in every BEiT, and biases of '
            'queries and values; here with_cls_token='
            f'{backbone.cls_token is not None} and bias={bias!r}: export it '
            '--to backbone')
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


def swin_facts(student):
    """Describe a Swin V2 in the words that timm and transformers share.

    Returns:
        tuple: arguments (dict), and the side of the image in pixels.

    Raises:
        Refused: if its windows are not those that one size gives on its
            grids, it is not square, or lacks what every Swin V2 has.
    """
    backbone = student.backbone
    biased = backbone.stages[0].blocks[0].attn.w_msa.q_bias is not None
    if not biased or backbone.patch_embed.norm is None:
        raise Refused(
            'other libraries have a norm of the patches in every Swin V2, and '
            'biases of queries and values; here are patch_cfg.norm_cfg='
            f'{backbone.patch_embed.norm} and qkv_bias={biased}: export it '
            '--to backbone')
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
        # 0: the coordinates are those of the windows at hand
        pretrained_window_sizes=[
            pretrained or trained * (trained != window)
            for pretrained, trained, window in zip(
                student.config.get('pretrained_window_sizes', [0] *
                                   len(windows)), backbone.window_sizes,
                windows)
        ])
    return facts, patch_size * side


def own_weights(student, prefix):
    """The weights of a network of another library within a backbone.

    Args:
        student (LoadedStudent): without a classifier.
        prefix (str): of the network's names in the backbone.

    Raises:
        Refused: if there is a classifier.
    """
    check_headless(student, 'that library')
    return {
        name.removeprefix(prefix): value
        for name, value in student.backbone.state_dict().items()
    }


def check_headless(student, library):
    """Refuse a classifier, which pools in another way than its library's.

    Raises:
        Refused: if there is one.
    """
    if student.head:
        raise Refused(
            f'this student has a classifier of {student.num_classes} classes, '
            f'which {library} would give other tokens than it has learnt: '
            'export it --to backbone, or export the distilled student')


def swin_weights(student):
    """Name the last norm, and order merged patches, as all but mmpretrain.

    The last axis of `reduction.weight` (2 C, 4 C) is of four merged patches:
    elsewhere the C channels of each patch, patches (row, column) 00 10 01 11;
    in mmpretrain the four patches 00 01 10 11 of each channel.
    """
    last = f'norm{len(student.backbone.depths) - 1}.'
    renamed = {}
    for key, value in student.weights().items():
        if key.endswith('.reduction.weight'):
            value = value.unflatten(1, (-1, 2, 2)).permute(0, 3, 2, 1)
            value = value.flatten(1)
        if key.startswith(last):
            key = key.replace(last, 'norm.')
        renamed[key] = value
    return renamed


def _side(sizes):
    height, width = sizes
    if height != width:
        raise Refused(f'only squares are exported, not {height} x {width}')
    return height
