"""What networks of other libraries have in common, as teacher or student."""
from functools import cached_property

import torch
from mmengine.model import BaseModule

from mmfd.errors import Refused
from mmfd.networks import image_size
from mmfd.networks.blocks import layer_depths
from mmfd.weights import provenance, strict_loading


class LibraryNetwork(BaseModule):
    """A network of another library: what it returns, says and loads.

    Called with normalised images it returns what backbones of mmpretrain do: a
    tuple of one, tokens (B, cls + h * w, C) or a map (B, C, h, w). Registers
    are left out.

    Args:
        network (nn.Module): with random weights.
        facts (Facts): what the library says of it.
        input_size (tuple | None): the only (H, W) that it takes.
        norms (Sequence[str]): names of last norms that the library applies
            after pooling and not to tokens; the first that is there is used.
        unused (Sequence[str]): names of modules and parameters on which
            features do not depend: poolers, classifiers, mask tokens. Except
            for that norm they are frozen, since no gradient reaches them.
        init_cfg (dict | None): `dict(type='Pretrained', checkpoint=FILE)`. In
            FILE are the names of the library; with a `prefix`, those that
            training here saves.
    """

    def __init__(self, network, facts, input_size, norms, unused, init_cfg):
        super().__init__(init_cfg)
        self.network = network
        self.facts = facts
        self.input_size = input_size
        modules = dict(network.named_modules())
        self.norm = next((name for name in norms if name in modules), '')
        self.channels_last = False  # what blocks within return: (B, h, w, C)
        for name, parameter in network.named_parameters():
            if is_within(name, unused) and not is_within(name, [self.norm]):
                parameter.requires_grad_(False)

    def normed(self, features):
        """Features behind the last norm, where the library left it out."""
        if not self.norm:
            return features
        return self.network.get_submodule(self.norm)(features)

    def features(self, x):
        """What the library computes, in its layout: tokens or a map."""
        raise NotImplementedError

    def translate(self, weights):
        """Weights as the library publishes them, in the network's names.

        Args:
            weights (dict): name -> tensor.

        Returns:
            dict: also with what the network lacks, which is refused then.

        Raises:
            Refused: if the library cannot read them.
        """
        raise NotImplementedError

    def forward(self, x):
        """Normalised images (B, 3, H, W) to a tuple of tokens or a map.

        Raises:
            Refused: for images of a size that it does not take, and where its
                facts contradict what it computes.
        """
        image = tuple(x.shape[-2:])
        if self.input_size and image != tuple(self.input_size):
            raise Refused(
                f'images of {image[0]} x {image[1]} pixels for '
                f'{self.facts.name}, which was built for '
                f'{self.input_size[0]} x {self.input_size[1]}: set img_size '
                'of this backbone, or the size of the crops')
        out = self.features(x)
        if not isinstance(out, torch.Tensor):
            raise Refused(f'{self.facts.name} gives a {type(out).__name__} in '
                          'place of tokens or of one map: it can be no '
                          'teacher and no student')
        self._check(tuple(out.shape), image)
        if out.ndim == 3 and self.facts.registers:
            cls, _, patches = out.tensor_split(
                [self.facts.cls, self.facts.cls + self.facts.registers], 1)
            out = torch.cat((cls, patches), 1)
        return (out, )

    def _check(self, shape, image):
        """Compare what came with the facts."""
        facts = self.facts
        width = width_of(facts.name, shape)
        if width != facts.width:
            raise Refused(f'{facts.name} gives {width} channels and its facts '
                          f'say {facts.width}: set facts=dict(width={width})')
        if len(shape) == 4:
            return
        h, w = facts.grid(image)
        before = shape[1] - h * w
        if before != facts.cls + facts.registers:
            cls = before - facts.registers
            advice = (
                f'set those that are wrong, as facts=dict(cls={cls})'
                if 0 <= cls < 10 else 'unless facts=dict(patch=N) is wrong, '
                'it gives no whole map, and can be no teacher and no student')
            raise Refused(
                f'{facts.name} gives {shape[1]} tokens for {image[0]} x '
                f'{image[1]} pixels. Its facts say cls={facts.cls}, registers='
                f'{facts.registers} and a map of {h} x {w}, as '
                f'patch={facts.patch}: {advice}')

    def load_weights(self, path, source='', prefix=''):
        """Load a file in the library's names, or refuse it.

        Args:
            path (str), source (str): as of `strict_loading.load_into`.
            prefix (str): `backbone.` for a checkpoint of a training here,
                which has names of its own.

        Returns:
            list[str]: what was left out, as of `strict_loading.load_into`.

        Raises:
            Refused: as `strict_loading.load_into`.
        """
        source = source or self.facts.where()
        if prefix:
            return strict_loading.load_into(
                self, path, prefix, source, half=True)
        return strict_loading.load_into(
            self.network,
            path,
            source=source,
            half=True,
            translate=lambda weights: self.translate(_in_fp32(weights)))

    def get_layer_depth(self, param_name, prefix=''):
        """Depth of a weight and how many there are, for layer decay.

        As of mmpretrain's backbones; see `blocks.layer_depths`.
        """
        depths, count = self.depths
        return depths.get(param_name.removeprefix(prefix), count - 1), count

    @cached_property
    def depths(self):
        return layer_depths(self)

    def init_weights(self):
        """Load what `init_cfg` names; else the library's random weights stay.

        Raises:
            Refused: if it is not `dict(type='Pretrained', checkpoint=FILE)`.
        """
        init_cfg = self.init_cfg
        if init_cfg is None:
            return
        if (not isinstance(init_cfg, dict)
                or init_cfg.get('type') != 'Pretrained'
                or 'checkpoint' not in init_cfg):
            raise Refused(f'init_cfg={init_cfg}: set it to '
                          "dict(type='Pretrained', checkpoint=FILE)")
        self.load_weights(
            init_cfg['checkpoint'], prefix=init_cfg.get('prefix') or '')


def facts_of(model):
    """Facts of the networks by name in a model: part -> `Facts`.

    Its parts are '', its backbone, and if it is a distillation `teacher`, or
    `teacher.NAME` of each branch.
    """
    networks = {'': getattr(model, 'backbone', None)}
    for name, branch in getattr(model, 'branches', {}).items():
        if hasattr(branch, 'teacher'):
            networks[provenance.teacher_part(name)] = branch.teacher.backbone
    return {
        part: network.facts
        for part, network in networks.items()
        if isinstance(network, LibraryNetwork)
    }


def width_of(name, shape):
    """Channels of tokens (B, L, C) or a map (B, C, h, w), or Refused."""
    if len(shape) not in (3, 4):
        raise Refused(f'{name} gives {tuple(shape)}, neither tokens (B, L, C) '
                      'nor a map (B, C, h, w): it can be no teacher and no '
                      'student')
    return shape[2] if len(shape) == 3 else shape[1]


def check_size(name, img_size, patch):
    """Refuse an (H, W) that patches do not cover.

    Raises:
        Refused: naming the nearest sizes.
    """
    for side in img_size:
        image_size.check_multiple(side, patch, f'the patch of {name}, {patch}')


def check_colours(name, channels):
    """Refuse a network of images that have not three channels."""
    if channels != 3:
        raise Refused(f'{name} takes images of {channels} channels, and those '
                      'here have 3, RGB: name a network of such images')


def pair(size, place='img_size', unit='pixels'):
    """(H, W) of an int or a pair; None of None.

    Args:
        size (int | tuple | None): in `unit`.
        place (str): of the setting, for a message.

    Raises:
        Refused: for other things, and for a side below 1.
    """
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else size
    if (not isinstance(sides, (list, tuple)) or len(sides) != 2 or not all(
            isinstance(s, int) and not isinstance(s, bool) and s > 0
            for s in sides)):
        raise Refused(f'{place}={size!r}: expected is a side, or (height, '
                      f'width), whole numbers of {unit}')
    return tuple(sides)


def is_within(name, modules):
    """Whether a parameter is, or is in, one of these modules, by its name."""
    return any(name == module or name.startswith(f'{module}.')
               for module in modules)


def _in_fp32(weights):
    """Half precision as fp32, before a library resizes positions in it."""
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.items()
    }
