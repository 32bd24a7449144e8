"""Adapt a config to the processes and devices of its run."""
import torch

from mmfd.hosts.config_tree import dicts

# Settings of a loader's worker processes, which PyTorch refuses without any
OF_WORKERS = ('persistent_workers', 'prefetch_factor', 'timeout',
              'multiprocessing_context')


def adapt(cfg):
    """Change settings that assume GPUs, several processes or data workers."""
    for loop in 'train', 'val', 'test':
        loader = cfg.get(f'{loop}_dataloader') or {}
        if not loader.get('num_workers'):  # it reads in this process
            for key in OF_WORKERS:
                loader.pop(key, None)
    on_cpu = not torch.cuda.is_available()
    if cfg.launcher != 'none' and on_cpu and not is_sharded(cfg):
        wrapper = cfg.get('model_wrapper_cfg') or dict(broadcast_buffers=False)
        # the host's wrapper would name a GPU
        cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    if cfg.launcher == 'none' or on_cpu:
        replace_sync_batch_norm(cfg)


def replace_sync_batch_norm(cfg):
    """Replace `SyncBN`, which needs several GPUs, by `BN`."""
    for _, node in dicts(cfg.model):
        if node.get('type') == 'SyncBN':
            node['type'] = 'BN'


def is_sharded(cfg):
    """Whether the processes share one copy of the weights."""
    wrapper = cfg.get('model_wrapper_cfg') or {}
    return cfg.launcher != 'none' and wrapper.get(
        'type') == 'mmfd.FullySharded'
