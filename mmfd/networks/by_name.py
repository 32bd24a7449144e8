"""Find a network by the name that its library gives it.

    timm:NAME          timm:vit_base_patch16_dinov3
    hf:FOLDER          with config.json, as the Hugging Face hub has it
    hf:ORG/NAME        of the hub, or of its cache
    torchvision:NAME   torchvision:resnet50
    mm:NAME            mm:resnet18_8xb32_in1k, of mmpretrain
    mmfd:NAME          mmfd:vitb16, a student of configs/_base_/students

Each may be followed by `=FILE`, its weights.
"""
import re
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

import torch
from mmengine.config import Config
from torch.utils import serialization

from mmfd.errors import Refused
from mmfd.networks import (hub, huggingface_files, mmpretrain_networks, names,
                           swin, timm_network, torchvision_network)
from mmfd.networks.facts import Facts
from mmfd.networks.library_network import check_size, pair
from mmfd.registry import MODELS
from mmfd.weights import checkpoints, weight_files
from mmfd.weights.meta_device import LinspaceOnCPU
from mmfd.weights.rename import prefix_of_backbone


class NamedNetwork(NamedTuple):
    """A network that was found by its name.

    Attributes:
        backbone: config for `MODELS.build`; it has random weights.
        facts: what is known of it.
        checkpoint: FILE of `NAME=FILE`, or None.
        published: finds the weights that are published, and returns the path
            of their file. It downloads them where they are in no cache.
    """
    backbone: dict
    facts: Facts
    checkpoint: str | None
    published: Callable

    def weights(self):
        """Path of the file with its weights: `checkpoint`, or published.

        Raises:
            Refused: if there is no FILE, and they are in no cache and cannot
                be downloaded, or were never published.
        """
        return self.checkpoint or self.published()

    def prefix(self):
        """What the names of the backbone begin with in that file.

        `'backbone.'` in a checkpoint of OpenMMLab or of a training here, ''
        in a file that a library publishes.
        """
        path = self.weights()
        with serialization.config.patch('load.mmap', True):
            return prefix_of_backbone(checkpoints.state_dict_in(path))


def find(text, img_size=None):
    """Find a network by its name, without its weights.

    Args:
        text (str): LIBRARY:NAME or LIBRARY:NAME=FILE.
        img_size (int | tuple | None): of the images that it will see, in
            pixels, a pair is (H, W). None takes the size that its weights
            were trained at.

    Returns:
        NamedNetwork

    Raises:
        Refused: for an unknown library or name, with the nearest ones; a FILE
            that is not there; a size that its patches do not cover.
    """
    library, name, file = names.split(text)
    backbone, facts, published = FINDERS[library](name, pair(img_size))
    return NamedNetwork(backbone, facts, file or None, published)


def _sized(backbone, img_size):
    return dict(backbone, img_size=[*img_size]) if img_size else backbone


def _facts(backbone):
    with torch.device('meta'), LinspaceOnCPU():
        return MODELS.build(backbone).facts


def _published_at(url, library, who, name):
    """Finds the file at an address, if `who` publishes one."""

    def published():
        if url:
            return hub.file_at(url)
        raise Refused(f'{who} has published no weights for {name}: give a '
                      f'file, {library}:{name}=FILE')

    return published


def _timm(name, img_size):
    said = timm_network.published(name)
    backbone = _sized(dict(type='mmfd.TimmNetwork', name=name), img_size)
    published = _published_at(said.url, 'timm', 'timm', name)
    if said.hf_hub_id:
        file = said.hf_hub_filename
        published = partial(hub.file_of, said.hf_hub_id,
                            [file] if file else weight_files.IN_FOLDER)
    return backbone, _facts(backbone), published


def _huggingface(name, img_size):
    in_hub = re.fullmatch(r'[\w.-]+/[\w.@-]+',
                          name) and (not Path(name).is_dir())
    folder = hub.folder_of(name) if in_hub else name
    config, said = huggingface_files.read(folder)
    if in_hub:
        said.update(name=f'hf:{name}', source=name)
    if 'architecture' in config:  # timm wrote it
        backbone = _sized(
            timm_network.of_config(config, said['name'], said.get('source')),
            img_size)
    else:
        backbone = dict(
            type='mmfd.HuggingFaceNetwork', config=config, facts=said)

    def published():
        return hub.file_of(name) if in_hub else (
            huggingface_files.weights_in(name))

    facts = _facts(backbone)
    check_size(facts.name, img_size or (), facts.patch)
    return backbone, facts, published


def _torchvision(name, img_size):
    said = torchvision_network.published(name)
    backbone = _sized(
        dict(type='mmfd.TorchvisionNetwork', name=name), img_size)
    published = _published_at(said and said.url, 'torchvision', 'torchvision',
                              name)
    return backbone, MODELS.build(backbone).facts, published


def _mmpretrain(name, img_size):
    backbone, trained_at, statistics, url = mmpretrain_networks.find(name)
    published = _published_at(url, 'mm', 'mmpretrain', name)
    facts = mmpretrain_networks.measure(
        backbone, f'mm:{name}', trained_at, **statistics, source=url)
    if img_size and img_size != trained_at:
        if 'img_size' in backbone:
            check_size(facts.name, img_size, facts.patch)
            backbone['img_size'] = [*img_size]
        mmpretrain_networks.called(backbone, facts.name, img_size)
    return backbone, facts, published


def _mmfd(name, img_size):
    names.check_mmfd(name)
    cfg = Config.fromfile(names.students()[name])
    backbone = cfg.student.to_dict()
    if img_size:
        if img_size[0] != img_size[1]:
            raise Refused(f"mmfd's students take square images, and not "
                          f'{img_size[0]} x {img_size[1]}')
        backbone |= _at_size(backbone, img_size[0])

    def published():
        raise Refused(f'no weights of mmfd:{name} are published here: give a '
                      f'file, mmfd:{name}=FILE')

    return backbone, mmpretrain_networks.measure(backbone, f'mmfd:{name}',
                                                 pair(backbone['img_size']),
                                                 cfg.statistics.mean,
                                                 cfg.statistics.std), published


def _at_size(backbone, img_size):
    """What another size of images changes in the config of a student.

    A Swin keeps the number of its windows, and the coordinates of those that
    its weights know.
    """
    before, window = backbone['img_size'], backbone.get('window_size')
    changed = dict(img_size=img_size)
    if window and img_size != before:
        changed.update(
            window_size=window * img_size // before,
            pretrained_window_sizes=swin.windows_of(before, window))
    return changed


FINDERS = dict(
    zip(names.LIBRARIES,
        (_timm, _huggingface, _torchvision, _mmpretrain, _mmfd),
        strict=True))
