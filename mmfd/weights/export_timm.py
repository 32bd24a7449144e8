"""Students in timm: its names, and the arguments that build the network."""
from mmfd.errors import Refused
from mmfd.weights.loaded_student import beit_facts, swin_facts, swin_weights
from mmfd.weights.rename import rename_by_wildcards


def beit_to_timm(student, weights):
    """A BEiT to `timm.models.beit.Beit`: weights, arguments, expression."""
    facts, pooled, eps = beit_facts(student)
    if eps != 1e-6:
        raise Refused(f"the norms of timm's BEiT have eps 1e-6, not {eps}")
    config = dict(
        facts,
        num_classes=student.num_classes,
        global_pool='avg' if pooled else '')
    weights = rename_by_wildcards(weights, BEIT_NAMES, "timm's BEiT")
    return weights, config, 'timm.models.beit.Beit({})'


def swin_to_timm(student, weights):
    """A Swin V2 to timm's: weights, arguments, expression."""
    facts, img_size = swin_facts(student)
    config = dict(facts, img_size=img_size, num_classes=student.num_classes)
    weights = rename_by_wildcards(
        swin_weights(student, weights), SWIN_NAMES, "timm's Swin V2")
    return (weights, config,
            'timm.models.swin_transformer_v2.SwinTransformerV2({})')


BEIT_NAMES = {
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
SWIN_NAMES = {
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
