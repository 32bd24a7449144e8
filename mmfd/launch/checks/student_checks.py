"""Check what a config gives to the backbone that it starts from a file.

Students of mmfd and networks that `mmfd convert` has converted see RGB with
the mean and standard deviation that they were trained with. Configs of
detectors and segmentors have those of their own backbones.
"""
import os

from mmfd.errors import Refused
from mmfd.launch.config_tree import dicts
from mmfd.weights import checkpoints, provenance

OURS = ('StudentViT', 'StudentSwin', 'TimmNetwork', 'HuggingFaceNetwork',
        'TorchvisionNetwork')
CHANNEL_ORDERS = ('to_rgb', 'bgr_to_rgb')  # of mmpretrain; of mmseg and mmdet
TOLERANCE = 0.01  # of 255: statistics are rounded


def check(cfg):
    """Check old keys for weights, statistics and channel order.

    Args:
        cfg (Config): of the run.

    Raises:
        Refused: naming the lines to set.
    """
    for path, model in dicts(cfg['model'], 'model'):
        if not isinstance(model.get('backbone'), dict):
            continue
        kind = model['backbone'].get('type')  # of a lazy config a class
        is_ours = str(getattr(kind, '__name__', kind)).endswith(OURS)
        if is_ours:
            _check_pretrained(path, model)
        if 'teacher' not in model:
            _check_statistics(path, model, cfg, is_ours)


def _check_pretrained(path, model):
    """Refuse weights of another network, which mmseg's configs name so."""
    for where, part in (path, model), (f'{path}.backbone', model['backbone']):
        if part.get('pretrained') is not None:
            raise Refused(
                f'{where}.pretrained={part["pretrained"]!r} names weights of '
                f'another network than {model["backbone"]["type"]}: set '
                f'{where}.pretrained=None in the config, and '
                f'{path}.backbone.init_cfg=dict(type="Pretrained", '
                'checkpoint="STUDENT.pth", prefix="backbone.")')


def _check_statistics(path, model, cfg, is_ours):
    """Compare statistics and channel order with those of the weights.

    Args:
        is_ours (bool): the backbone is a student, which always sees RGB.
    """
    init = model['backbone'].get('init_cfg')
    file = init.get('checkpoint') if isinstance(init, dict) else None
    if not isinstance(file, str) or not os.path.exists(file):
        return  # trained from random weights, or refused elsewhere
    given, place = model.get('data_preprocessor'), f'{path}.data_preprocessor'
    if 'data_preprocessor' not in model:  # mmpretrain's have it beside it
        given, place = cfg.get('data_preprocessor'), 'data_preprocessor'
    given = given or {}
    if 'data_preprocessor' in given:  # within one for several branches
        given, place = given['data_preprocessor'], f'{place}.data_preprocessor'
    known = provenance.statistics(checkpoints.meta(file))
    if not known and not is_ours:
        return  # a file of others, which says nothing
    wrong = {
        key: value
        for key, value in known.items() if not _alike(given.get(key), value)
    }
    if not any(given.get(key) for key in CHANNEL_ORDERS):
        library = cfg.get('default_scope')
        key = CHANNEL_ORDERS[library in ('mmseg', 'mmdet')]
        wrong[key] = True
    if given.get('rgb_to_bgr'):  # which mmengine refuses beside bgr_to_rgb
        wrong['rgb_to_bgr'] = False
    if wrong:
        options = ' '.join(f'{place}.{key}={value}'.replace(' ', '')
                           for key, value in wrong.items())
        now = ', '.join(f'{key}={given.get(key)}' for key in wrong)
        raise Refused(
            f'the network of {file} sees RGB images with its own statistics, '
            f'and this config gives it {now}: set --cfg-options {options}')


def _alike(given, value):
    return bool(given) and len(given) == len(value) and all(
        abs(a - b) < TOLERANCE for a, b in zip(given, value))
