"""Load networks to analyze, from configs and checkpoints."""
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope

from mmfd.analysis.images import pipeline_of
from mmfd.errors import Refused
from mmfd.launch.failed_start import build_errors_refused
from mmfd.registry import branches_of
from mmfd.weights import checkpoints, strict_loading, weight_files
from mmfd.weights.rename import prefix_of_backbone


class Network:
    """A backbone, and how a batch of images gets to it.

    Args:
        name (str): in plots and numbers.
        cfg (Config): of its model.
        model (nn.Module): it has the preprocessor and the backbone.
        backbone (nn.Module): whose layers are recorded.
        forward (Callable): takes what the preprocessor gives.
        branch (dict): of a teacher, the config of its branch; else None.
    """

    def __init__(self, name, cfg, model, backbone, forward, branch=None):
        self.name, self.cfg, self.branch = name, cfg, branch
        self.is_teacher = branch is not None
        self.model, self.backbone, self.forward = model, backbone, forward

    @cached_property
    def pipeline(self):
        with _building(self.cfg):
            return pipeline_of(self.cfg)

    def __call__(self, batch):
        return self.forward(self.model.data_preprocessor(batch)['inputs'])


class TeacherAlone(BaseModel):
    """A teacher of a distillation, without its student."""

    def __init__(self, config, data_preprocessor):
        super().__init__(data_preprocessor)
        self.teacher = MODELS.build(config)

    def forward(self, pixels):
        return self.teacher(pixels)


def load_teachers(cfg):
    """The teachers of a distillation, whose student is not needed.

    Returns:
        list[Network]

    Raises:
        Refused: if the config is of no distillation.
    """
    return [load_teacher(cfg, name) for name in branches_of(cfg.model) or ['']]


def load_teacher(cfg, name=''):
    """One teacher of a distillation.

    Args:
        name (str): of its branch; '' where there is one teacher.

    Returns:
        Network

    Raises:
        Refused: if the config is of no distillation, or has no such branch.
    """
    branches = branches_of(cfg.model)
    if not branches:
        raise Refused(
            f'{cfg.filename} has no teacher: name a checkpoint of its '
            'network after it')
    if name not in branches:
        raise Refused(f'{cfg.filename} has several teachers and none called '
                      f'{name!r}: name one of its branches, --branch '
                      f'{" or ".join(branches)}' if any(branches) else
                      f'{cfg.filename} has one teacher and no branches: leave '
                      f'out --branch {name}')
    with _building(cfg):
        model = TeacherAlone(branches[name].teacher,
                             cfg.model.data_preprocessor)
        _ready(model)
    return _teacher(name, cfg, model, model.teacher)


def load_pair(cfg, checkpoint):
    """Teachers and student of a distillation, or the network of a classifier.

    Args:
        checkpoint (str): what training wrote, or a backbone's weights;
            `'random'` for weights that are not trained.

    Returns:
        list[Network]
    """
    model, names = _build(cfg, checkpoint), branches_of(cfg.model)
    teachers = [
        _teacher(name, cfg, model, model.branches[name].teacher)
        for name in names
    ]
    return [
        *teachers,
        _trained(cfg, model, 'student' if names else Path(cfg.filename).stem)
    ]


def load_two(first, second):
    """The trained networks of two (config, checkpoint).

    Returns:
        list[Network]: with names by which they can be told apart.
    """
    names = [Path(cfg.filename).stem for cfg, _ in (first, second)]
    if names[0] == names[1]:
        names = [
            f'{name}, {Path(checkpoint).name}'
            for name, (_, checkpoint) in zip(names, (first, second))
        ]
    if names[0] == names[1]:
        names = [f'{i}: {name}' for i, name in enumerate(names, 1)]
    return [
        _trained(cfg, _build(cfg, checkpoint), name)
        for name, (cfg, checkpoint) in zip(names, (first, second))
    ]


def _build(cfg, checkpoint):
    """The model of a config with the weights of a file."""
    config = cfg.model.copy()
    config.backbone = dict(cfg.model.backbone, init_cfg=None)
    with _building(cfg):
        model = MODELS.build(config)
    if checkpoint == weight_files.RANDOM:
        model.init_weights()
    else:
        of_model = prefix_of_backbone(checkpoints.state_dict_in(checkpoint))
        strict_loading.load_into(model if of_model else model.backbone,
                                 checkpoint)
    return _ready(model)


@contextmanager
def _building(cfg):
    """Look names up where the config says; what cannot be built is refused."""
    scope = cfg.get('default_scope', 'mmpretrain')
    with (DefaultScope.overwrite_default_scope(scope), build_errors_refused()):
        yield


def _ready(model):
    """In eval mode, on the GPU where there is one."""
    model.eval()
    return model.to('cuda' if torch.cuda.is_available() else 'cpu')


def _teacher(name, cfg, model, teacher):
    return Network(f'teacher {name}'.strip(), cfg, model, teacher.backbone,
                   teacher,
                   branches_of(cfg.model)[name])


def _trained(cfg, model, name):
    return Network(name, cfg, model, model.backbone, model.extract_feat)
