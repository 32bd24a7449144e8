"""Runs of a model of 27 weights, in this process: some tenths of a second."""
import copy
from uuid import uuid4

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset

from mmfd.launch.runner import prepare


@MODELS.register_module(force=True)
class TinyModel(BaseModel):

    def __init__(self, data_preprocessor=None):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x, mode='loss'):
        if mode == 'predict':
            return [self.linear(x)]
        loss = self.norm(self.linear(x)).square().mean()
        return dict(loss=loss + self.linear.weight.square().sum())


@DATASETS.register_module(force=True)
class TinyData(Dataset):

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return dict(x=torch.arange(4.) * int(index))


CONFIG = dict(
    model=dict(type='TinyModel'),
    train_dataloader=dict(
        dataset=dict(type='TinyData'),
        sampler=dict(type='mmfd.ResumableSampler'),
        collate_fn=dict(type='default_collate'),
        batch_size=3,
        num_workers=0),
    train_cfg=dict(type='mmfd.ResumableLoop', max_epochs=2),
    optim_wrapper=dict(
        type='mmfd.AmpOptimWrapper',
        dtype='float32',
        constructor='mmfd.LayerDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=0.1)),
    default_hooks=dict(
        runtime_info=dict(type='mmfd.NonBlockingRuntimeInfoHook'),
        logger=dict(type='LoggerHook', interval=1),
        numbers=dict(type='mmfd.NanGuardHook'),
        checkpoint=dict(
            type='mmfd.ResumableCheckpointHook', interval=1, minutes=None),
        param_scheduler=dict(
            type='mmfd.WarmupCosineHook',
            warmup_epochs=0,
            warmup_lr=0.,
            min_lr=0.)),
    custom_hooks=[dict(type='EMAHook')],
    visualizer=None,
    launcher='none',
    log_level='ERROR',
    randomness=dict(seed=0),
    env_cfg=dict(dist_cfg=dict(backend='gloo')),
    load_from=None,
    resume=False,
    default_scope='mmpretrain')


def config(work_dir, **changes):
    """The config of a run.

    Args:
        work_dir (Path): for its logs and checkpoints.
        changes: merged into `CONFIG`.
    """
    names = dict(work_dir=str(work_dir), experiment_name=uuid4().hex)
    cfg = Config(dict(copy.deepcopy(CONFIG), **names))
    cfg.merge_from_dict(copy.deepcopy(changes))
    return cfg


def run(cfg):
    """Train to the end; the Runner."""
    runner = prepare(cfg, train=True)
    runner.train()
    return runner
