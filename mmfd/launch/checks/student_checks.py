"""Check what a config gives to the backbone that it starts from a file.

Students of mmfd and networks that `mmfd convert` has converted see RGB with
the mean and standard deviation that they were trained with. Configs of
detectors and segmentors have those of their own backbones.
"""
import os

from mmfd.errors import Refused
from mmfd.hosts.config_tree import dicts
from mmfd.registry import branches_of
from mmfd.weights import checkpoints, provenance

OURS = ('StudentViT', 'StudentSwin', 'TimmNetwork', 'HuggingFaceNetwork',
        'TorchvisionNetwork')
OF_MAPS = ('decode_head', 'bbox_head', 'roi_head', 'rpn_head', 'mask_head',
           'panoptic_head')  # heads that take maps
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
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
        is_ours = _name(model['backbone']) in OURS
        if is_ours:
            _check_pretrained(path, model)
            _check_maps(path, model)
        if not branches_of(model):
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


def _check_maps(path, model):
    """Refuse a ViT that gives tokens where heads take maps."""
    heads, backbone = [h for h in OF_MAPS if model.get(h)], model['backbone']
    given = backbone.get('out_type', 'avg_featmap')
    if heads and given != 'featmap' and _name(backbone) == 'StudentViT':
        raise Refused(f'{path}.{heads[0]} takes maps, and the student gives '
                      f'out_type={given!r}: set --cfg-options '
                      f'{path}.backbone.out_type=featmap')


def _check_pipelines(path, cfg):
    """Refuse images that are normalised before the model does it."""
    for where, part in dicts({key: cfg.get(key) for key in LOADERS}):
        if _name(part).split('/')[-1] == 'Normalize':  # or torchvision/
            raise Refused(f'{where} normalises images, and {path} does it '
                          'again: take it out of the pipeline')


def _name(part):
    """The class that a dict of a config names, without its library."""
    kind = part.get('type')  # of a lazy config a class
    return str(getattr(kind, '__name__', kind)).split('.')[-1]


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
    _check_pipelines(place, cfg)
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
