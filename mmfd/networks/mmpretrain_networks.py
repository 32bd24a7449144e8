"""Networks of mmpretrain by the names of its models, and facts of them."""
import difflib
import inspect

import torch

from mmfd.errors import Refused
from mmfd.hosts import openmmlab, operations
from mmfd.networks.facts import Facts
from mmfd.networks.library_network import pair, width_of
from mmfd.registry import MODELS
from mmfd.weights.meta_device import allocate, weightless

# Settings of a training, which no other network inherits
OF_TRAINING = 'init_cfg', 'frozen_stages', 'norm_eval'
# What makes a network return all its tokens or a map, after its last norm
WHOLE = dict(out_type='raw', final_norm=True, gap_before_final_norm=False)
SIZE = 224  # pixels, where a network takes any size
CROPS = 'scale', 'crop_size'  # what the crops of a pipeline call their size


def find(name):
    """The backbone of a model of mmpretrain.

    Args:
        name (str): as `mmpretrain.list_models` has it.

    Returns:
        tuple: its config, the (H, W) of the images that it was trained on,
        their `mean` and `std` (dict), and the address of its weights or None.

    Raises:
        Refused: for a name that it does not know; names the nearest ones.
    """
    from mmpretrain.apis import ModelHub, list_models
    known = list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0)
        raise Refused(f'mmpretrain has no model {name!r}; the nearest names '
                      f'are {", ".join(near)}')
    model = ModelHub.get(name)
    config, backbone = model.config, model.config.model.get('backbone')
    if not isinstance(backbone, dict):
        raise Refused(f'{name} of mmpretrain has no backbone for images')
    backbone = {k: v for k, v in backbone.items() if k not in OF_TRAINING}
    backbone['type'] = f'mmpretrain.{backbone["type"]}'
    takes = inspect.signature(MODELS.get(backbone['type'])).parameters
    backbone.update({k: v for k, v in WHOLE.items() if k in takes})
    given = config.model.get('data_preprocessor') or config.get(
        'data_preprocessor') or {}
    statistics = {key: given.get(key) for key in ('mean', 'std')}
    size = pair(backbone.get('img_size')) or _crops(config)
    return backbone, size, statistics, model.weights


def _crops(config):
    """(H, W) of the crops that a config trains on; `SIZE` if it has none."""
    loader = config.get('train_dataloader') or {}
    pipeline = loader.get('dataset', {}).get('pipeline') or []
    sizes = [
        step[key] for step in pipeline for key in CROPS
        if 'Crop' in step['type'] and key in step
    ]
    return pair(sizes[-1] if sizes else SIZE)


def measure(backbone, name, img_size, mean, std, source=None):
    """Facts of a host's network, by a call without numbers.

    Args:
        backbone (dict): its config.
        img_size (tuple | None): (H, W) of the images of its weights. A
            network that takes any size is called with another one, that all
            patches divide.

    Raises:
        Refused: if it cannot be called with such images, or gives neither
            tokens nor a map.
    """
    image = pair(backbone.get('img_size')) or (SIZE, SIZE)
    network, shape = called(backbone, name, image)
    width = width_of(name, shape)
    before = openmmlab.layout(network)[0] or 0
    cells = (shape[1] - before if len(shape) == 3 else shape[2] * shape[3])
    return Facts(
        name=name,
        width=width,
        patch=round((image[0] * image[1] / cells)**0.5),
        img_size=img_size or image,
        mean=tuple(mean or ()),
        std=tuple(std or ()),
        cls=before,
        source=source)


def called(backbone, name, image):
    """A host's network, and the shape of what it gives for an image (H, W).

    Raises:
        Refused: if it takes no such images.
    """
    with weightless():
        network = MODELS.build(dict(backbone, init_cfg=None))
    network.eval()  # mmpretrain's returns None
    try:
        with operations.fake_tensors(), torch.no_grad():
            allocate(network, 'cpu')
            return network, network(torch.zeros(1, 3, *image))[-1].shape
    except Exception as error:  # a network may answer a size with anything
        raise Refused(f'{name} takes no images of {image[0]} x {image[1]} '
                      f'pixels: {error}') from error
