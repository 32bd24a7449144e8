"""Loaders of ImageNet-1K at 128 images per process, still without a pipeline.

`data_root` is an ImageNet tree, any folder of images or a list of folders: see
`mmfd.ImageFolder`. Images are read by one worker process for each core that a
training process has, at most 16, and each worker reads two batches ahead
(PyTorch's `prefetch_factor`); `--cfg-options train_dataloader.num_workers=N`
sets another number.
"""
data_root = 'data/imagenet'
# `import` would make this a lazy config in mmengine
os = __import__('os')
system = __import__('mmfd.hosts.system', fromlist=['system'])
processes = int(os.environ.get('LOCAL_WORLD_SIZE', 1))  # on this machine
num_workers = min(max(system.available_cores() // processes, 1), 16)

train_dataloader = dict(
    batch_size=128,
    num_workers=num_workers,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='mmfd.ResumableSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmfd.ImageFolder', data_root=data_root, split='train'))
val_dataloader = dict(
    batch_size=128,
    num_workers=num_workers,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmfd.ImageFolder', data_root=data_root, split='val'))
test_dataloader = val_dataloader
val_cfg = test_cfg = dict()
