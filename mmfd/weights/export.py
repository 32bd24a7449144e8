"""The student of a checkpoint for OpenMMLab, timm or transformers."""
from typing import NamedTuple

from mmpretrain.models import BEiTViT, SwinTransformerV2

from mmfd.errors import Refused
from mmfd.weights import checkpoints, export_hf, export_timm, strict_loading
from mmfd.weights.carried_config import is_trusted
from mmfd.weights.loaded_student import load_student

# library -> class of the backbone -> function from a `LoadedStudent` and its
# weights to the fields of `Exported`
LIBRARIES = {
    'hf': {
        BEiTViT: export_hf.beit_to_hf,
        SwinTransformerV2: export_hf.swin_to_hf
    },
    'timm': {
        BEiTViT: export_timm.beit_to_timm,
        SwinTransformerV2: export_timm.swin_to_timm
    },
}


class Exported(NamedTuple):
    """What there is to write of a student.

    Attributes:
        weights: name -> tensor, in the names of the library.
        config: arguments of the network that the weights fit.
        python: the expression that builds it, with `{}` for the arguments.
    """
    weights: dict
    config: dict
    python: str


def export(path, model, to):
    """Take the student out of a checkpoint.

    Args:
        path (str): file of training or tools/convert.py.
        model (dict): config of the model that was trained; may be empty for
            the backbone alone.
        to (str): `backbone`, in mm names as it is, or a key of `LIBRARIES`.

    Returns:
        Exported: weights, and how to build the network for them.

    Raises:
        Refused: as `strict_loading.load_into`; if the file is not of that
            config; or if the library has no such network.
    """
    if to == 'backbone':
        return _backbone(path, model)
    student = load_student(path, model)
    weights = student.head | {
        key: value
        for key, value in student.backbone.state_dict().items()
        if not key.endswith(checkpoints.DERIVED_BUFFERS)
    }
    for family, exporter in LIBRARIES[to].items():
        if isinstance(student.backbone, family):
            return Exported(*exporter(student, weights))
    raise Refused(
        f'{to} is given BEiT ViTs and Swin V2s, not '
        f'{type(student.backbone).__name__}: export it --to backbone')


def _backbone(path, model):
    weights = checkpoints.state_dict_of(checkpoints.load(path), path)
    backbone = {
        key.removeprefix('backbone.'): value
        for key, value in weights.items() if key.startswith('backbone.')
    }
    if not backbone:
        raise Refused(
            f'{path} holds no student: none of its keys begins with '
            f"'backbone.'; they begin with {', '.join([*weights][:4])}. A "
            'backbone alone is given to --to timm or hf with its --config')
    strict_loading.check_precision(backbone, path)
    config = dict(model.get('backbone', {}))
    config.pop('init_cfg', None)
    python = 'mmengine.registry.MODELS.build(dict({}))'
    if not config or not is_trusted(config):
        python = 'its config'
    return Exported(backbone, config, python)
