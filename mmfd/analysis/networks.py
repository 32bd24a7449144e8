"""From configs and checkpoints to networks that can be looked at."""
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope

from mmfd.analysis.images import pipeline_of
from mmfd.errors import Refused
from mmfd.weights import checkpoints, strict_loading


class Network:
    """A backbone, and how a batch of images gets to it.

    Args:
        name (str): in figures and numbers.
        model (nn.Module): what has the preprocessor and the backbone.
        backbone (nn.Module): what is watched.
        run (Callable): takes what the preprocessor gives.
    """

    def __init__(self, name, cfg, model, backbone, run):
        self.name, self.cfg = name, cfg
        self.model, self.backbone, self.run = model, backbone, run

    @cached_property
    def pipeline(self):
        with scope_of(self.cfg):
            return pipeline_of(self.cfg)

    def __call__(self, batch):
        return self.run(self.model.data_preprocessor(batch)['inputs'])


class Lone(BaseModel):
    """A teacher without student."""

    def __init__(self, cfg):
        super().__init__(cfg.model.data_preprocessor)
        self.teacher = MODELS.build(cfg.model.teacher)

    def forward(self, pixels):
        return self.teacher(pixels)


def scope_of(cfg):
    """Where names without a library in a config are looked for."""
    return DefaultScope.overwrite_default_scope(
        cfg.get('default_scope', 'mmpretrain'))


def of_teacher(cfg):
    """The teacher of a distillation, alone.

    Raises:
        Refused: if the config is of no distillation.
    """
    if 'teacher' not in cfg.model:
        raise Refused(
            f'{cfg.filename} has no teacher: name a checkpoint of its '
            'network after it')
    with scope_of(cfg):
        return _teacher(cfg, settled(Lone(cfg)))


def of_pair(cfg, checkpoint):
    """Teacher and student of a distillation, or the network of a classifier.

    Args:
        checkpoint (str): what training wrote, or a backbone's weights;
            `'random'` for weights that are not trained.
    """
    model = build(cfg, checkpoint)
    student = _trained(cfg, model, 'student')
    if 'teacher' not in cfg.model:
        return [_trained(cfg, model, Path(cfg.filename).stem)]
    return [_teacher(cfg, model), student]


def of_two(first, second):
    """The trained networks of two (config, checkpoint), before and after."""
    names = [Path(cfg.filename).stem for cfg, _ in (first, second)]
    if names[0] == names[1]:
        names = [
            f'{name}, {Path(checkpoint).name}'
            for name, (_, checkpoint) in zip(names, (first, second))
        ]
    if names[0] == names[1]:
        names = [f'{i}: {name}' for i, name in enumerate(names, 1)]
    return [
        _trained(cfg, build(cfg, checkpoint), name)
        for name, (cfg, checkpoint) in zip(names, (first, second))
    ]


def build(cfg, checkpoint):
    """The model of a config with the weights of a file, in eval mode."""
    config = cfg.model.copy()
    config.backbone = dict(cfg.model.backbone, init_cfg=None)
    with scope_of(cfg):
        model = MODELS.build(config)
    if checkpoint == checkpoints.RANDOM:
        model.init_weights()
    else:
        names = checkpoints.state_dict_of(
            checkpoints.load(checkpoint), checkpoint)
        whole = any(name.startswith('backbone.') for name in names)
        strict_loading.load_into(model if whole else model.backbone,
                                 checkpoint)
    return settled(model)


def settled(model):
    """In eval mode, on the GPU where there is one."""
    model.eval()
    return model.to('cuda' if torch.cuda.is_available() else 'cpu')


def _teacher(cfg, model):
    return Network('teacher', cfg, model, model.teacher.backbone,
                   model.teacher)


def _trained(cfg, model, name):

    def run(images):
        return model.extract_feat(images)

    return Network(name, cfg, model, model.backbone, run)


def evaluation(network, batches):
    """What a landscape is measured by: () -> dict(loss[, top1]).

    The held-out loss of a distillation, whose targets are computed once;
    cross-entropy and top-1 of a classifier.

    Args:
        batches (Iterable[dict]): as the preprocessor takes them.

    Raises:
        Refused: if there is nothing to measure.
    """
    model = network.model
    prepared = [model.data_preprocessor(batch) for batch in batches]
    if 'teacher' in network.cfg.model:
        targets = [(data['inputs'], model.teacher(data['inputs']))
                   for data in prepared]
        return lambda: _distillation_loss(model, targets)
    head = network.cfg.model.get('head') or {}
    samples = [s for data in prepared for s in data['data_samples']]
    if 'num_classes' not in head or 'gt_label' not in samples[0]:
        raise Refused(
            'a landscape needs a distillation, or a classifier and labels: '
            'give --images a folder that has train/ or val/ with a folder '
            'for each class')
    labelled = [(data['inputs'],
                 torch.cat([s.gt_label for s in data['data_samples']]))
                for data in prepared]
    return lambda: _classification(model, labelled)


def _distillation_loss(model, targets):
    losses = [(model.head.loss(model.neck(model.extract_feat(pixels)),
                               target)['loss'].item(), len(pixels))
              for pixels, target in targets]
    images = sum(count for _, count in losses)
    return dict(loss=sum(loss * count for loss, count in losses) / images)


def _classification(model, labelled):
    loss = hits = images = 0
    for inputs, labels in labelled:
        logits = model(inputs, mode='tensor')
        loss += F.cross_entropy(logits, labels, reduction='sum').item()
        hits += (logits.argmax(1) == labels).sum().item()
        images += len(labels)
    return dict(loss=loss / images, top1=100 * hits / images)
