"""The configs at full size: some real iterations on a CPU."""
import os
import re

import pytest
import timm
import torch
from helpers.commands import command
from helpers.downstream import ours, theirs_alone
from helpers.models import official_name as official_vit
from helpers.models import official_swin_name as official_swin
from helpers.openai_clip import write_clip
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.data import toy_images
from mmfd.weights import checkpoints


def write_dino(path):
    torch.save(
        timm.create_model('vit_base_patch16_224.dino').state_dict(), path)


def write_clip_b(path):
    write_clip(path, width=768, layers=12, patch=16, img_size=224)


def write_clip_l(path):
    write_clip(path, width=1024, layers=24, patch=14, img_size=224)


@pytest.mark.full
@pytest.mark.parametrize('name, kind, write', [
    ('clip_vitb', 'openai-clip', write_clip_b),
    ('clip_vitl', 'openai-clip', write_clip_l),
    ('dino_vitb', 'dino', write_dino),
])
def test_full_size_config_trains_resumes_and_exports(tmp_path, shapes_root,
                                                     request, name, kind,
                                                     write):
    write(tmp_path / 'published.pt')
    teacher, run = tmp_path / 'teacher.pth', tmp_path / 'run'
    command('convert', kind, tmp_path / 'published.pt', teacher)
    images = request.config.getoption('--images') or shapes_root / 'imagenet'
    options = [
        '--work-dir', run, '--data-root', images, '--cfg-options',
        f'model.teacher.checkpoint={teacher}',
        'train_dataloader.dataset.indices=6', 'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.logger.interval=1',
        'default_hooks.param_scheduler.warmup_epochs=0'
    ]
    config = f'configs/fd/{name}_fd.py'
    command('train', config, *options, 'train_cfg.max_epochs=1')
    log = command('train', config, '--resume', *options,
                  'train_cfg.max_epochs=2')
    assert 'resumed epoch: 1, iter: 3' in log
    command('export', run / 'epoch_2.pth', tmp_path / 'student.pth')
    exported = checkpoints.load(tmp_path / 'student.pth')['state_dict']
    student = Config.fromfile(config).model.backbone
    ours = MODELS.build(student)
    saved = checkpoints.load(run / 'epoch_2.pth')['state_dict']
    ours.load_state_dict({
        key.removeprefix('backbone.'): value
        for key, value in saved.items() if key.startswith('backbone.')
    })
    host = MODELS.build(dict(student, type='mmpretrain.BEiTViT'))
    host.load_state_dict(exported, strict=True)
    host.eval()
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(
            ours.eval()(pixels)[0], host(pixels)[0], rtol=0, atol=1e-4)


SEGMENTOR = '''
_base_ = '{repo}/configs/ade20k/clip_vitb_fd_ade20k.py'
bn = dict(norm_cfg=dict(type='BN'))  # SyncBN wants GPUs
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='{student}')),
    decode_head=bn, auxiliary_head=bn)
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(loader, dataset=dict(data_root='{images}/ade'))
val_dataloader = dict(loader, dataset=dict(
    data_root='{images}/ade', indices=1))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=1, val_interval=2)
param_scheduler = None  # its warm-up is longer than the run
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
'''
DETECTOR = '''
_base_ = '{repo}/configs/coco/esvit_swinb_fd_cascade_3x.py'
heads = [dict(head, num_classes=10, norm_cfg=dict(type='BN'))
         for head in _base_.model.roi_head.bbox_head]
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='{student}')),
    roi_head=dict(bbox_head=heads, mask_head=dict(num_classes=10)))
dataset = dict(
    data_root='{images}/coco', metainfo=dict(classes={classes}))
size = dict(type='Resize', scale=(512, 512), keep_ratio=True)
load = [dict(type='LoadImageFromFile'), size]
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(dataset, indices=2, pipeline=[
        load[0], dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        size, dict(type='PackDetInputs')]))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(dataset, indices=1, pipeline=[*load, dict(
        type='PackDetInputs', meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape',
            'scale_factor'))]))
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file='{images}/coco/annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=2)
param_scheduler = None
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
'''


@pytest.mark.full
@pytest.mark.parametrize('run', [ours, theirs_alone])
@pytest.mark.parametrize('library, distilled, official, text', [
    ('mmseg', 'clip_vitb_fd', official_vit, SEGMENTOR),
    ('mmdet', 'esvit_swinb_fd', official_swin, DETECTOR),
])
def test_official_student_trains_and_is_tested_downstream(
        tmp_path, shapes_root, library, distilled, official, text, run):
    """At 512 pixels, one iteration each, from a file in official names."""
    model = MODELS.build(
        Config.fromfile(f'configs/fd/{distilled}.py').model.backbone)
    model.init_weights()
    published, student = tmp_path / 'published.pth', tmp_path / 'student.pth'
    torch.save(
        dict(
            model={
                f'encoder.{official(name)}': value
                for name, value in model.state_dict().items()
            }), published)
    command('convert', 'fd-official', published, student)
    config, folder = tmp_path / 'config.py', tmp_path / 'run'
    config.write_text(
        text.format(
            repo=os.getcwd(),
            student=student,
            images=shapes_root,
            classes=list(toy_images.CLASSES)))
    log = run(library, 'train', config, '--work-dir', folder)
    assert float(re.findall(r' loss:? ([\d.]+)', log)[-1]) > 0
    [last] = (folder / 'last_checkpoint').read_text().split()
    before, after = model.state_dict(), checkpoints.load(last)['state_dict']
    for name in ('patch_embed.projection.weight', ):
        moved = (after[f'backbone.{name}'] - before[name]).abs().max()
        assert 0 < moved < 1e-2  # began there, and was trained
    log = run(library, 'test', config, last, '--work-dir', folder)
    # a detector after one iteration may find nothing at all
    assert re.search(
        r'mIoU:? \d|coco/bbox_mAP:? \d|results of the whole dataset is empty',
        log)
