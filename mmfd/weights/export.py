"""The student of a checkpoint for OpenMMLab and other libraries."""
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.weights import (checkpoints, export_hf, export_timm,
                          export_torchvision, strict_loading)
from mmfd.weights.carried_config import is_trusted
from mmfd.weights.exported import Exported
from mmfd.weights.loaded_student import load_student
from mmfd.weights.rename import BACKBONE, below

# library -> class of the backbone -> function from a `LoadedStudent` to an
# `Exported`
LIBRARIES = {
    'hf': {
        'mmpretrain.BEiTViT': export_hf.beit_to_hf,
        'mmpretrain.SwinTransformerV2': export_hf.swin_to_hf,
        'mmfd.HuggingFaceNetwork': export_hf.named_to_hf,
    },
    'timm': {
        'mmpretrain.BEiTViT': export_timm.beit_to_timm,
        'mmpretrain.SwinTransformerV2': export_timm.swin_to_timm,
        'mmpretrain.TIMMBackbone': export_timm.wrapped_to_timm,
        'mmfd.TimmNetwork': export_timm.named_to_timm,
    },
    'torchvision': {
        'mmfd.TorchvisionNetwork': export_torchvision.named_to_torchvision,
    },
}


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
    for family, exporter in LIBRARIES[to].items():
        if isinstance(student.backbone, MODELS.get(family)):
            return exporter(student)
    known = ', '.join(LIBRARIES[to])
    raise Refused(
        f'--to {to} takes a student that is a {known}, and this one is a '
        f'{type(student.backbone).__name__}: export it --to backbone or onnx')


def _backbone(path, model):
    weights = checkpoints.state_dict_in(path)
    backbone = below(weights, BACKBONE)
    if not backbone:
        raise Refused(
            f'{path} holds no student: none of its keys begins with '
            f"'backbone.'; they begin with {', '.join([*weights][:4])}. A "
            'backbone alone is given to --to timm or hf with its --config')
    strict_loading.check_precision(backbone, path)
    config = dict(model.get('backbone', {}))
    config.pop('init_cfg', None)
    if not config or not is_trusted(config):
        return Exported(backbone, config, '')
    return Exported(backbone, config,
                    'mmengine.registry.MODELS.build(dict({}))')
