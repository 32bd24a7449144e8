"""Networks of timm by name, as teacher or student."""
import torch
from torch import nn
from torch.func import functional_call

from mmfd.errors import Refused
from mmfd.hosts import timm_models
from mmfd.networks import names
from mmfd.networks.facts import Facts
from mmfd.networks.library_network import (LibraryNetwork, check_colours,
                                           check_size, is_within, pair)
from mmfd.registry import MODELS

# Where networks keep the norm that they apply after pooling
LAST_NORMS = ('fc_norm', 'head.norm')
# Modules that are behind the features of most networks, and a parameter of
# masked training. EfficientNets have their conv_head before the features
MAYBE_UNUSED = ('attn_pool', 'conv_head', 'in_conv', 'norm_head', 'head',
                'head_dist', 'fc', 'classifier', 'pre_classifier',
                'pre_logits', 'mask_token')


@MODELS.register_module()
class TimmNetwork(LibraryNetwork):
    """A network of timm, with random weights until some are loaded.

    Its features are `forward_features`, and the norm that the network applies
    after pooling (`fc_norm`, `head.norm`) where it has one there instead of
    before.

    Args:
        name (str): of `timm.create_model`, also with a tag:
            `vit_small_patch14_reg4_dinov2.lvd142m`.
        img_size (int | tuple): that it is built for; None takes the size that
            its weights were trained at. Its positions are resized to it when
            weights are loaded. Convolutional networks take any size.
        drop_path_rate (float): of its residual branches.
        model_args (dict): further arguments of `timm.create_model`.
        facts (dict): those of its `Facts` that are other than timm says.
        init_cfg (dict): see `LibraryNetwork`.

    Raises:
        Refused: for a name that timm does not know, a network that pools in
            any case, or a size that patches do not cover.
    """

    def __init__(self,
                 name,
                 img_size=None,
                 drop_path_rate=0.,
                 model_args=None,
                 facts=None,
                 init_cfg=None):
        said = published(name)
        args = dict(model_args or {}, num_classes=0)
        if drop_path_rate:
            args['drop_path_rate'] = drop_path_rate
        check_colours(name, args.get('in_chans', said.input_size[0]))
        fixed = said.fixed_input_size and not args.get('dynamic_img_size')
        size = pair(img_size) or tuple(said.input_size[1:])
        if fixed:
            args['img_size'] = size
        try:
            network, self_filter = timm_models.create(name, **args)
            network.reset_classifier(0, '')
            unused = _unused(network, size)
        except (AssertionError, AttributeError, RuntimeError, TypeError,
                ValueError) as error:
            raise Refused(f'timm builds no {name} with {args} that gives all '
                          f'its features: {error}') from error
        facts = _facts(name, network, said).override(facts)
        if fixed:
            check_size(name, size, facts.patch)
        super().__init__(network, facts, size if fixed else None, LAST_NORMS,
                         unused, init_cfg)
        self.channels_last = timm_models.is_channels_last(network)
        self._filter = self_filter

    def features(self, x):
        """(B, registers and all, C), or a map (B, C, h, w)."""
        out = self.normed(self.network.forward_features(x))
        return out.permute(0, 3, 1, 2) if self.channels_last else out

    def translate(self, weights):
        """Published weights in this network's names, by timm's own filter."""
        weights = dict(weights)
        if self._filter:
            try:
                weights = self._filter(weights, self.network)
            except Exception as error:  # foreign names may make it fail
                raise Refused(
                    f'timm cannot read these weights as {self.facts.name}: '
                    f'{type(error).__name__}: {error}') from error
        absent = self.network.pretrained_cfg.get('classifier') or ()
        absent = [absent] if isinstance(absent, str) else [*absent]
        if not timm_models.has_attention_pool(self.network):
            absent.append('attn_pool')  # no part of the features
        return {
            name: value
            for name, value in weights.items()
            if not name.startswith(tuple(f'{part}.' for part in absent))
        }


def published(name):
    """What timm says of the weights of a name: a `PretrainedCfg`.

    Raises:
        Refused: if timm is not installed or knows no such network; names the
            nearest ones.
    """
    timm = timm_models.library()
    stem, _, tag = name.partition('.')
    names.check_timm(name)
    said = timm.get_pretrained_cfg(stem, allow_unregistered=True)
    if tag:
        try:
            said = timm.get_pretrained_cfg(name, allow_unregistered=False)
        except (RuntimeError, ValueError) as error:
            known = timm.list_pretrained(f'{stem}*')
            raise Refused(f'timm has no weights {name!r} of {stem}; it has '
                          f'{", ".join(known) or "none"}') from error
    if said is None:
        raise Refused(f'timm says nothing of {name}: of which size and '
                      'statistics its images were')
    return said


def of_config(config, name, source=None):
    """The config of a `TimmNetwork` from a `config.json` that timm wrote.

    Args:
        config (dict): with `architecture`; `pretrained_cfg`, of which files of
            former versions have the entries beside it; `model_args`.
        name (str), source (str): facts of it.

    Raises:
        Refused: for entries of other types than timm writes.
    """
    said = config.get('pretrained_cfg', config)
    try:
        facts = dict(
            name=name,
            img_size=[int(side) for side in said['input_size'][1:]],
            mean=[*_of_255(said['mean'])],
            std=[*_of_255(said['std'])],
            licence=said.get('license'),
            source=source)
        args = dict(config.get('model_args') or {})
        architecture = str(config['architecture'])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Refused(f'config.json of {name} is not as timm writes it: '
                      f'{type(error).__name__}: {error}') from error
    args.pop('num_classes', None)
    size = args.pop('img_size', None) or facts['img_size']
    return dict(
        type='mmfd.TimmNetwork',
        name=architecture,
        img_size=size,
        model_args=args,
        facts={
            key: value
            for key, value in facts.items() if value
        })


class _Features(nn.Module):
    """What a network computes before it pools."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network.forward_features(x)


def _unused(network, size):
    """Names of the parameters that take no part in the features.

    Those are looked at that are within `MAYBE_UNUSED`, by a call without
    numbers for an image of this size (H, W).
    """
    whole = _Features(network)
    names = [
        name for name, _ in whole.named_parameters()
        if is_within(name.removeprefix('network.'), MAYBE_UNUSED)
    ]
    if not names:
        return []
    tensors = dict(whole.named_parameters()) | dict(whole.named_buffers())
    tensors = {
        name:
        torch.empty_like(tensor, device='meta', requires_grad=name in names)
        for name, tensor in tensors.items()
    }
    network.eval()
    with torch.enable_grad():
        out = functional_call(whole, tensors,
                              torch.zeros(1, 3, *size, device='meta'))
    network.train()
    gradients = [None] * len(names)
    if out.requires_grad:
        gradients = torch.autograd.grad(
            out.sum(), [tensors[name] for name in names], allow_unused=True)
    return [
        name.removeprefix('network.')
        for name, gradient in zip(names, gradients) if gradient is None
    ]


def _facts(name, network, said):
    before, registers = timm_models.prefix_tokens(network)
    return Facts(
        name=f'timm:{name}',
        width=network.num_features,
        patch=network.feature_info[-1]['reduction'],
        img_size=tuple(said.input_size[1:]),
        mean=_of_255(said.mean),
        std=_of_255(said.std),
        cls=before - registers,
        registers=registers,
        licence=said.license,
        source=said.hf_hub_id or said.url or None)


def _of_255(numbers):
    return tuple(255 * number for number in numbers)
