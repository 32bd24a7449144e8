"""Measure the mean and covariance of the tokens that a teacher's neck selects.

The file of `TokenStatistics` is what the normalisers that need one read.
"""
import json

import torch
from mmengine.utils import ProgressBar

from mmfd.analysis.images import check_batch_size
from mmfd.analysis.load_networks import load_teacher
from mmfd.errors import Refused
from mmfd.registry import branches_of
from mmfd.targets.token_statistics import TokenMoments, TokenStatistics
from mmfd.training.cached_teacher import without_cache

OTHER_TARGETS = {  # of necks that do not select tokens of a single layer
    'mmfd.LogitsNeck': 'logits',
    'mmfd.LayersNeck': 'tokens of several layers'
}


@torch.no_grad()
def measure(cfg, images, batch_size, name=''):
    """Statistics of the tokens of a config's teacher, before its normaliser.

    Args:
        cfg (Config): of a distillation. Its neck may name the file that is
            still to be made.
        images (ImageSample): what the teacher sees, as it sees held-out ones.
        batch_size (int): images at a time.
        name (str): of the teacher's branch; '' where there is one teacher.

    Returns:
        TokenStatistics

    Raises:
        Refused: if the config is of no distillation or has no such branch,
            its target is not of tokens, or there are fewer tokens than
            channels.
    """
    check_batch_size(batch_size)
    chosen = dict(tokens='all', grid=None, artifacts=None)
    if branch := branches_of(cfg.model).get(name):
        neck = branch.teacher.neck
        if neck.type in OTHER_TARGETS:
            raise Refused(f'{neck.type} gives {OTHER_TARGETS[neck.type]}, and '
                          'statistics are of the tokens of one layer: set '
                          'teacher.neck.type to mmfd.TargetNeck')
        chosen = {key: neck.get(key, chosen[key]) for key in chosen}
        branch.teacher = without_cache(branch.teacher)
        branch.teacher.neck = dict(
            type='mmfd.TargetNeck', normalize='none', **chosen)
    network, moments = load_teacher(cfg, name), TokenMoments()
    bar = ProgressBar(len(images.infos))
    for batch, in images.batches([network.pipeline], batch_size):
        tokens = network(batch)
        if network.model.teacher.neck.masks:  # those are zeros
            tokens = tokens[tokens.any(-1)]
        moments.add(tokens)
        count, size = len(batch['inputs']), batch['inputs'][0].shape[1:]
        bar.update(count)
    print()
    width = len(moments.mean)
    if moments.count <= width:
        raise Refused(
            f'{len(images.infos)} images give {moments.count} tokens, too few '
            f'for the covariance of {width} channels: raise --number, to '
            'several times as many at least')
    teacher = network.model.teacher
    return TokenStatistics(
        mean=moments.mean.cpu(),
        covariance=moments.covariance().cpu(),
        tokens=moments.count,
        images=len(images.infos) - len(images.broken),
        teacher=teacher.fingerprint,
        selection=teacher.neck.selection,
        img_size=json.dumps([*(teacher.img_size or size)]))
