"""Students in transformers: its names, and the config of the network."""
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from mmfd.weights import checkpoints
from mmfd.weights.exported import Exported
from mmfd.weights.loaded_student import (beit_facts, check_headless,
                                         swin_facts, swin_weights)
from mmfd.weights.rename import rename_by_wildcards


def beit_to_hf(student):
    """A BEiT to transformers' `Beit`."""
    facts, pooled, eps = beit_facts(student)
    return _to_hf(
        student, student.weights(), BEIT_NAMES, 'Beit',
        dict(
            image_size=facts['img_size'],
            patch_size=facts['patch_size'],
            hidden_size=facts['embed_dim'],
            num_hidden_layers=facts['depth'],
            num_attention_heads=facts['num_heads'],
            intermediate_size=round(facts['embed_dim'] * facts['mlp_ratio']),
            layer_norm_eps=eps,
            layer_scale_init_value=facts['init_values'] or 0.,
            drop_path_rate=0.,
            use_absolute_position_embeddings=facts['use_abs_pos_emb'],
            use_relative_position_bias=facts['use_rel_pos_bias'],
            use_shared_relative_position_bias=facts['use_shared_rel_pos_bias'],
            use_mean_pooling=pooled))


def swin_to_hf(student):
    """A Swin V2 to transformers' `Swinv2`."""
    facts, img_size = swin_facts(student)
    # there a merging ends its stage; in mmpretrain it begins the next one
    weights = {
        re.sub(r'(?<=^stages\.)\d+(?=\.downsample)', lambda stage: str(
            int(stage[0]) - 1), key):
        value
        for key, value in swin_weights(student).items()
    }
    return _to_hf(student, weights, SWIN_NAMES, 'Swinv2',
                  dict(facts, image_size=img_size))


def _to_hf(student, weights, names, family, config):
    """A model or, with a head, classifier.

    A classifier has the names of the model below the family's, as `beit.`.
    """
    model = f'{family}Model'
    weights = rename_by_wildcards(
        _split_qkv(weights), names, f"transformers' {family}")
    if student.head:
        model = f'{family}ForImageClassification'
        config = dict(config, num_labels=student.num_classes)
        below = family.lower() + '.'
        weights = {
            key if key.startswith('classifier.') else below + key: value
            for key, value in weights.items()
        }
    config = dict(config, model_type=family.lower(), architectures=[model])
    return _exported(weights, config, model)


def named_to_hf(student):
    """The network within `mmfd.HuggingFaceNetwork`."""
    check_headless(student, 'transformers')
    network = student.backbone.network
    with TemporaryDirectory() as folder:  # in the names of the hub
        network.save_pretrained(folder)
        weights = checkpoints.state_dict_in(folder)
        config = json.loads(Path(folder, 'config.json').read_text())
    return _exported(weights, config, type(network).__name__)


def processor(statistics, size, short_edge):
    """The content of a `preprocessor_config.json`: as `mmfd predict` reads.

    Args:
        statistics (dict): `mean` and `std`, RGB 0-255.
        size (tuple[int]): (H, W) that is cut out of the middle.
        short_edge (int): pixels to which images are resized before.
    """
    return dict(
        image_processor_type='BitImageProcessor',
        do_convert_rgb=True,
        do_resize=True,
        size=dict(shortest_edge=short_edge),
        resample=3,  # bicubic
        do_center_crop=True,
        crop_size=dict(height=size[0], width=size[1]),
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=[number / 255 for number in statistics['mean']],
        image_std=[number / 255 for number in statistics['std']])


def _exported(weights, config, model):
    return Exported(
        weights, config,
        f'transformers.{model}(transformers.AutoConfig.for_model({{}}))',
        _from_pretrained)


def _from_pretrained(built, path, weights):
    """transformers knows the names in files, which are not its network's."""
    model, config = built.removesuffix(')').split('(', 1)
    if not weights:
        return f'model = {model}.from_pretrained({path!r})'
    return (f'config = {config}\nmodel = {model}.from_pretrained(None, '
            f'config=config, state_dict={weights})')


def _split_qkv(weights):
    """Three layers where mmpretrain has one for query, key and value."""
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


BEIT_NAMES = {
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
_BLOCK, _HF_BLOCK = 'stages.*.blocks.*.', 'encoder.layers.*.blocks.*.'
SWIN_NAMES = {
    'patch_embed.projection.*': 'embeddings.patch_embeddings.projection.*',
    'patch_embed.norm.*': 'embeddings.norm.*',
    'stages.*.downsample.*.*': 'encoder.layers.*.downsample.*.*',
    _BLOCK + 'norm1.*': _HF_BLOCK + 'layernorm_before.*',
    _BLOCK + 'norm2.*': _HF_BLOCK + 'layernorm_after.*',
    _BLOCK + 'attn.w_msa.proj.*': _HF_BLOCK + 'attention.output.dense.*',
    _BLOCK + 'attn.w_msa.*': _HF_BLOCK + 'attention.self.*',
    _BLOCK + 'attn.w_msa.*.*': _HF_BLOCK + 'attention.self.*.*',
    _BLOCK + 'attn.w_msa.cpb_mlp.*.*':
    _HF_BLOCK + 'attention.self.continuous_position_bias_mlp.*.*',
    _BLOCK + 'ffn.layers.0.0.*': _HF_BLOCK + 'intermediate.dense.*',
    _BLOCK + 'ffn.layers.1.*': _HF_BLOCK + 'output.dense.*',
    'norm.*': 'layernorm.*',
    'head.fc.*': 'classifier.*',
}
