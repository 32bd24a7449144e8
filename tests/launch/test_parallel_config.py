"""Configs are adapted to the processes and workers of their run."""
from mmengine.config import Config
from mmengine.runner import Runner

from mmfd.launch.config_options import override
from mmfd.launch.parallel_config import adapt


def test_loader_of_every_split_runs_without_workers():
    cfg = Config.fromfile('configs/classification/clip_vitb_fd_in1k.py')
    cfg.launcher = 'none'
    cfg.train_dataloader.update(prefetch_factor=4, timeout=9)
    splits = ('train', 'val', 'test')
    override(cfg, {f'{split}_dataloader.num_workers': 0 for split in splits})
    adapt(cfg)
    for split in splits:
        config = dict(
            cfg[f'{split}_dataloader'],
            dataset=list(range(512)),
            sampler=range(512))
        assert len(next(iter(Runner.build_dataloader(config)))) == 128


def test_loader_with_workers_keeps_its_settings():
    cfg = Config.fromfile('configs/classification/clip_vitb_fd_in1k.py')
    cfg.launcher = 'none'
    override(cfg, {
        'train_dataloader.num_workers': 2,
        'train_dataloader.timeout': 9
    })
    adapt(cfg)
    assert cfg.train_dataloader.timeout == 9
    assert cfg.train_dataloader.persistent_workers
