"""Configs of a distillation and a fine-tuning that take seconds."""
from helpers.commands import ROOT
from helpers.models import clip_teacher
from mmengine.registry import MODELS, DefaultScope

from mmfd.weights import checkpoints

FD = '''
_base_ = '{repo}/configs/fd/clip_vitb_fd.py'
arch = dict(
    _delete_=True,
    embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
clip = dict(
    _delete_=True,
    embed_dims=128, num_layers=2, num_heads=2, feedforward_channels=512)
model = dict(
    teacher=dict(
        checkpoint='{folder}/clip.pth',
        img_size=None,
        backbone=dict(arch=clip, img_size=32, patch_size=8)),
    backbone=dict(arch=arch, img_size=32, patch_size=8, drop_path_rate=0.1),
    neck=dict(in_channels=48, out_channels=128))
crop = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.RandomResizedCrop', scale=32, backend='pillow'),
    dict(type='mmpretrain.PackInputs')]
loader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{shapes}/imagenet', pipeline=crop))
train_dataloader = loader
resize = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=32),
    dict(type='mmpretrain.PackInputs')]
val_dataloader = dict(
    batch_size=8, num_workers=0,
    dataset=dict(data_root='{shapes}/imagenet', pipeline=resize))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(
    logger=dict(interval=5), checkpoint=dict(interval=1),
    throughput=dict(interval=5), param_scheduler=dict(warmup_epochs=0))
'''
FINETUNE = '''
_base_ = '{repo}/configs/classification/clip_vitb_fd_in1k.py'
arch = dict(
    _delete_=True,
    embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(
        arch=arch, img_size=32, patch_size=8,
        init_cfg=dict(checkpoint='{folder}/run/epoch_2.pth')),
    head=dict(in_channels=48, num_classes=10))
crop = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=32),
    dict(type='mmpretrain.PackInputs')]
loader = dict(
    batch_size=30, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='{shapes}/imagenet', pipeline=crop))
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader
train_cfg = dict(max_epochs=1)
default_hooks = dict(
    logger=dict(interval=2), param_scheduler=dict(warmup_epochs=0))
'''


def write_configs(folder, shapes):
    """Write `fd.py` and `finetune.py`.

    Args:
        folder (Path): the first reads its teacher from `clip.pth` there, the
            second its student from `run/epoch_2.pth`.
        shapes (Path): small toy images, 120 for training and 30 held out.
    """
    for name, text in ('fd', FD), ('finetune', FINETUNE):
        (folder / f'{name}.py').write_text(
            text.format(repo=ROOT, folder=folder, shapes=shapes))


def write_teacher(path):
    """Write weights that fit the teacher of FD, as tools/convert.py would."""
    config = clip_teacher(layers=2).backbone
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        weights = MODELS.build(config).state_dict()
    checkpoints.save(weights, path, {})
