"""The detectors of Swin V2-G at a hundredth of its width, on any COCO set."""
import json
from pathlib import Path

from helpers.commands import ROOT
from helpers.models import swin_arch
from mmengine.registry import MODELS, DefaultScope

from mmfd.weights import checkpoints

ARCH = swin_arch(16, (1, 1, 2, 1), (1, 2, 4, 8))
SMALL = '''
_base_ = '{repo}/configs/{leaf}.py'
images, larger = {side}, {side} * 3 // 2
model_wrapper_cfg = None  # one process
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **{arch}), img_size=images,
        window_size=[8, 8, 4, 2], test_window_size=[12, 12, 6, 3],
        init_cfg=dict(checkpoint='{folder}/fd.pth')),
    neck=[
        dict(type='mmfd.GlobalAttention', channels=128, num_heads=4),
        dict(type='FPN', in_channels=[16, 32, 64, 128], out_channels=32,
             num_outs=5)],
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=32)),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)))
for head in _base_.model.roi_head.bbox_head:
    head.update(in_channels=32, fc_out_channels=64, num_classes={count})
for stage in _base_.model.train_cfg.rcnn:
    stage.sampler.num = 64
_base_.model.train_cfg.rpn_proposal.update(nms_pre=200, max_per_img=200)
steps = [
    *_base_.train_dataloader.dataset.pipeline[:-3],
    dict(type='Resize', scale=(images, images), keep_ratio=True),
    *_base_.resized[1:]]
steps = [step for step in steps if step['type'] != 'InstaBoost']
test = _base_.test_dataloader.dataset.pipeline
test[1].scale = (larger, larger)
loader = dict(num_workers=0, persistent_workers=False)
dataset = dict(
    data_root='{data}/', ann_file='{annotations}', data_prefix=dict(
        img='{images}'), metainfo=dict(classes={classes}))
train_dataloader = dict(
    loader, batch_size=4, dataset=dict(dataset, pipeline=steps))
val_dataloader = dict(
    loader, dataset=dict(dataset, pipeline=test, indices={tested}))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='{data}/{annotations}')
test_evaluator = val_evaluator
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(side, side), keep_ratio=True)
    for side in (images, larger)]
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=5)]
train_cfg = dict(max_epochs={epochs}, val_interval={epochs})
optim_wrapper = dict(optimizer=dict(lr=2e-3))
default_hooks = dict(logger=dict(interval=5))
'''
MASKS = '''
model['roi_head'].update(mask_roi_extractor=dict(out_channels=32))
for head in _base_.model.roi_head.mask_head:
    head.update(
        in_channels=32, conv_out_channels=32, num_convs=2, num_classes={count})
custom_hooks = [dict(type='mmfd.ClassesByNameHook', same={same})]
load_from = '{detector}'
model['backbone']['init_cfg'] = None
'''


def write_student(folder):
    """Write `fd.pth`: a student of these widths, with FD's windows."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type='mmfd.StudentSwin',
                arch=ARCH,
                img_size=224,
                window_size=14))
    model.init_weights()
    checkpoints.save(
        model.state_dict(prefix='backbone.'), Path(folder, 'fd.pth'), {})


def write_like_objects365(coco, folder, annotations, images):
    """Annotations of a COCO set in the layout and names of Objects365.

    Its classes come in another order, in capitals, the first under another
    name, with one that has no box.

    Args:
        coco (Path): the COCO set.
        folder (Path): where `objects.json` and `images/v2/patch0` are made.
        annotations, images (str): of the COCO set, from its root.

    Returns:
        tuple: the names of its classes; and those of COCO.
    """
    content = json.loads(Path(coco, annotations).read_text())
    used = {a['category_id'] for a in content['annotations']}
    kept = [c for c in content['categories'] if c['id'] in used]
    names = [c['name'] for c in kept]
    for category in kept:
        category['name'] = category['name'].title()
    kept[0]['name'] = 'Something/Else'
    content['categories'] = [
        dict(id=10**4, name='Street Lights'), *reversed(kept)
    ]
    for image in content['images']:
        image['file_name'] = f'images/v2/patch0/{image["file_name"]}'
    folder = Path(folder)
    (folder / 'images').mkdir()
    (folder / 'images/patch0').symlink_to(Path(coco, images).resolve())
    (folder / 'objects.json').write_text(json.dumps(content))
    return [c['name'] for c in content['categories']], names


def write_configs(folder, coco, annotations, images, side, epochs, tested):
    """Write `objects.py` and `coco.py`: the second goes on from the first.

    Args:
        folder, coco, annotations, images: as of `write_like_objects365`.
        side (int): of images in pixels; they are tested at 3/2 of it.
        epochs (int): of each.
        tested (int): images of the test.

    Returns:
        tuple: as of `write_like_objects365`.
    """
    given, names = write_like_objects365(coco, folder, annotations, images)
    common = dict(
        repo=ROOT,
        folder=folder,
        arch=ARCH,
        side=side,
        epochs=epochs,
        tested=tested)
    Path(folder, 'objects.py').write_text(
        SMALL.format(
            leaf='objects365/swinv2g_fd_objects365',
            data=folder,
            annotations='objects.json',
            images='images/',
            classes=given,
            count=len(given),
            **common))
    Path(folder, 'coco.py').write_text((SMALL + MASKS).format(
        leaf='coco/swinv2g_fd_htc',
        data=coco,
        annotations=annotations,
        images=images,
        classes=names,
        count=len(names),
        same={names[0]: given[-1]},
        detector=f'{folder}/objects/epoch_{epochs}.pth',
        **common))
    return given, names
