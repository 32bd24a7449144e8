"""Networks of Hugging Face's transformers, as teacher or student."""
import copy
import difflib
import inspect
from typing import NamedTuple

import torch

from mmfd.errors import Refused
from mmfd.hosts.lookup import find
from mmfd.networks import huggingface_files
from mmfd.networks.facts import Facts
from mmfd.networks.library_network import LibraryNetwork, check_colours, pair
from mmfd.registry import MODELS

# Parts on which `last_hidden_state` does not depend
UNUSED = ('pooler', 'head', 'mask_token', 'embeddings.mask_token',
          'vision_model.head')
TOWER = 'vision_model.'  # transformers 5 has no such module in its networks
RESIZE = 'interpolate_pos_encoding'  # an argument of networks' forward


class Kind(NamedTuple):
    """What the code of a kind of network does and its config does not say.

    Attributes:
        cls: tokens before the map, without registers.
        norm: last norm, where the library applies it after pooling.
        halves: whether each stage but the first halves the map.
        stem: pixels between its first tokens; 0 if `patch_size` says it.
        fixed: whether it takes images of `image_size` alone.
    """
    cls: int = 0
    norm: str = ''
    halves: bool = False
    stem: int = 0
    fixed: bool = False


CLIP = Kind(cls=1, norm='vision_model.post_layernorm')
BEIT = Kind(cls=1, norm='pooler.layernorm')
CONVNEXT = Kind(norm='layernorm', halves=True)
SWIN = Kind(halves=True)
KINDS = {
    'aimv2_vision_model': Kind(fixed=True),
    'beit': BEIT,
    'chinese_clip_vision_model': CLIP,
    'clip_vision_model': CLIP,
    'convnext': CONVNEXT,
    'convnextv2': CONVNEXT,
    'data2vec-vision': BEIT,
    'deit': Kind(cls=2),
    'dinov2': Kind(cls=1),
    'dinov2_with_registers': Kind(cls=1),
    'dinov3_convnext': Kind(cls=1, halves=True, stem=4),  # the mean as cls
    'dinov3_vit': Kind(cls=1),
    'ijepa': Kind(),
    'resnet': Kind(halves=True, stem=4),
    'siglip_vision_model': Kind(),
    'swin': SWIN,
    'swinv2': SWIN,
    'vit': Kind(cls=1),
    'vit_msn': Kind(cls=1),
}


@MODELS.register_module()
class HuggingFaceNetwork(LibraryNetwork):
    """A vision network of transformers, with random weights until some load.

    Its features are `last_hidden_state`, and the norm that the network applies
    to its pooled token or mean (CLIP's `post_layernorm`) where it has one
    there. Absolute positions are resized for images of another size, as
    transformers does it.

    Args:
        config (dict | str): what is in `config.json`, or a folder with that
            file. Of a model of text and images, its part for images is taken.
        drop_path_rate (float): of its residual branches.
        facts (dict): those of its `Facts` that `config.json` does not say,
            such as `mean` and `std`, or says wrongly.
        init_cfg (dict): see `LibraryNetwork`.

    Raises:
        Refused: for a kind of network that is not in `KINDS`.
    """

    def __init__(self, config, drop_path_rate=0., facts=None, init_cfg=None):
        if not isinstance(config, dict):
            config, said = huggingface_files.read(config)
            facts = dict(said, **(facts or {}))
        config = of_images(config)
        if drop_path_rate:
            config['drop_path_rate'] = drop_path_rate
        kind, network = KINDS[config['model_type']], _build(config)
        known = _facts(kind, network.config.to_dict()).override(facts)
        check_colours(known.name, getattr(network.config, 'num_channels', 3))
        # neither is there where the config says it is applied to tokens
        norms = [kind.norm, kind.norm.removeprefix(TOWER)] if kind.norm else []
        super().__init__(network, known,
                         known.img_size if kind.fixed else None, norms, UNUSED,
                         init_cfg)
        takes = inspect.signature(network.forward).parameters
        self.resizes = RESIZE in takes
        self.built_for = pair(getattr(network.config, 'image_size', None))

    def features(self, x):
        """(B, registers and all, C), or a map (B, C, h, w)."""
        out = self.network(x, **self._options(x.shape[2:])).last_hidden_state
        if out.ndim == 3:
            return self.normed(out)
        return self.normed(out.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _options(self, size):
        """Whether positions are to be resized, which needs a square grid."""
        if not self.resizes or tuple(size) == self.built_for:
            return {}
        height, width = self.built_for
        if height != width:
            raise Refused(
                f'images of {size[0]} x {size[1]} pixels for {self.facts.name}'
                f', which was built for {height} x {width}, whose positions '
                'transformers cannot resize: set the size of the crops')
        return {RESIZE: True}

    def translate(self, weights):
        """Published weights in this network's names, by transformers.

        What is beside the network in a file, such as an encoder of text or a
        classifier, is left out.
        """
        try:
            found, info = type(self.network).from_pretrained(
                None,
                config=copy.deepcopy(self.network.config),
                state_dict=dict(weights),
                output_loading_info=True)
        except Exception as error:  # foreign names may make it fail
            raise Refused(f'transformers cannot read these weights as '
                          f'{self.facts.name}: {type(error).__name__}: '
                          f'{error}') from error
        lacking = {*info['missing_keys']}
        named = {
            name: value
            for name, value in found.state_dict().items()
            if name not in lacking
        }
        parts = {name.partition('.')[0] for name in found.state_dict()}
        prefix = f'{self.network.base_model_prefix}.'
        for name in info['unexpected_keys']:
            own = name.removeprefix(prefix)
            if own.partition('.')[0] in parts:  # the file is of a larger one
                named[own] = weights.get(name, torch.zeros(1))
        return named


def of_images(config):
    """The part of a `config.json` that describes the network for images.

    Raises:
        Refused: if its kind of network is unknown here.
    """
    kind = config.get('model_type')
    if kind not in KINDS and isinstance(config.get('vision_config'), dict):
        config = dict(_vision_defaults(kind), **config['vision_config'])
        kind = config.get('model_type') or kind
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, 3, 0)
        raise Refused(f'config.json is of model_type={kind!r}, which is '
                      f'none of those that can be teacher or student; the '
                      f'nearest are {", ".join(near)}, all of them '
                      f'{", ".join(KINDS)}')
    return {
        key: value
        for key, value in config.items()
        if key not in ('dtype', 'torch_dtype')  # fp32, whatever it was
    }


def _vision_defaults(kind):
    """What a model of text and images leaves out, as the library knows it."""
    known = find('transformers:CONFIG_MAPPING')
    defaults = known[kind]().to_dict() if kind in known else {}
    return defaults.get('vision_config') or {}


def _build(config):
    transformers = find('transformers')
    try:
        made = transformers.CONFIG_MAPPING[config['model_type']].from_dict(
            config)
        return transformers.MODEL_MAPPING[type(made)](made)
    except Exception as error:  # a config may make a builder raise anything
        raise Refused(f'transformers {transformers.__version__} builds no '
                      f'{config["model_type"]} of this config.json: '
                      f'{type(error).__name__}: {error}') from error


def _facts(kind, config):
    patch = kind.stem or _one(config['patch_size'])
    if kind.halves:
        patch *= 2**(len(config['depths']) - 1)
    widths = config.get('hidden_sizes') or [config['hidden_size']]
    return Facts(
        name=f'hf:{config.get("_name_or_path") or config["model_type"]}',
        width=widths[-1],
        patch=patch,
        img_size=pair(config.get('image_size', 224)),
        mean=(),
        std=(),
        cls=kind.cls,
        registers=config.get('num_register_tokens') or 0)


def _one(patch):
    if not isinstance(patch, int) and len({*patch}) > 1:
        raise Refused(f'patch_size={[*patch]} of config.json: those of a '
                      'teacher or student are squares')
    return patch if isinstance(patch, int) else patch[0]
