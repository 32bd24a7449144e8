"""Students in timm: its names, and the arguments that build the network."""
from mmfd.errors import Refused
from mmfd.hosts import timm_models
from mmfd.weights.exported import Exported
from mmfd.weights.loaded_student import (beit_facts, own_weights, swin_facts,
                                         swin_weights)
from mmfd.weights.rename import rename_by_wildcards

# Arguments of mmpretrain.TIMMBackbone that are not those of create_model, or
# of training alone
NOT_OF_TIMM = {
    'type', 'model_name', 'features_only', 'pretrained', 'checkpoint_path',
    'in_channels', 'init_cfg', 'drop_path_rate'
}


def beit_to_timm(student):
    """A BEiT to `timm.models.beit.Beit`."""
    facts, pooled, eps = beit_facts(student)
    if eps != 1e-6:
        raise Refused(f"the norms of timm's BEiT have eps 1e-6, not {eps}")
    config = dict(
        facts,
        num_classes=student.num_classes,
        global_pool='avg' if pooled else '')
    weights = rename_by_wildcards(student.weights(), BEIT_NAMES, "timm's BEiT")
    return Exported(weights, config, 'timm.models.beit.Beit({})')


def swin_to_timm(student):
    """A Swin V2 to timm's."""
    facts, img_size = swin_facts(student)
    config = dict(facts, img_size=img_size, num_classes=student.num_classes)
    weights = rename_by_wildcards(
        swin_weights(student), SWIN_NAMES, "timm's Swin V2")
    return Exported(weights, config,
                    'timm.models.swin_transformer_v2.SwinTransformerV2({})')


def wrapped_to_timm(student):
    """The network within `mmpretrain.TIMMBackbone`."""
    config = student.config
    args = {k: v for k, v in config.items() if k not in NOT_OF_TIMM}
    if config.get('in_channels', 3) != 3:
        args['in_chans'] = config['in_channels']
    return _created(config['model_name'], args,
                    own_weights(student, 'timm_model.'))


def named_to_timm(student):
    """The network within `mmfd.TimmNetwork`."""
    args = dict(student.config.get('model_args') or {})
    if student.backbone.input_size:
        args['img_size'] = tuple(student.backbone.input_size)
    return _created(student.config['name'], args,
                    own_weights(student, 'network.'))


def _created(name, args, weights):
    """What `timm.create_model` builds for these weights.

    A network whose tokens are not pooled may have lost the parts that pool
    them: it is looked for with and without pooling.

    Raises:
        Refused: if its names are others.
    """
    for pooling in {}, dict(global_pool=''):
        config = dict(args, num_classes=0, **pooling)
        network = timm_models.library().create_model(name, **config)
        differ = network.state_dict().keys() ^ weights.keys()
        if not differ:
            return Exported(weights, config,
                            f'timm.create_model({name!r}, {{}})', _with_path)
    raise Refused(f"timm's {name} without a classifier has not the weights of "
                  f'this student: they differ in {", ".join(sorted(differ))}. '
                  'Export it --to backbone or onnx')


def _with_path(built, path, weights):
    """timm itself reads the file."""
    return f'model = {built[:-1]}, checkpoint_path={path!r})'


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
