"""The detector of HTC++ on Objects365 v2, before COCO: boxes alone.

mmdet's own data set, which it looks for in data/Objects365/Obj365_v2. Nothing
is published but that Swin V2-G was trained on it first. Ours: 12 epochs with
steps at 8 and 11, at batch 64 and lr 2e-4, with the images of HTC++.
"""
_base_ = 'htc_swinv2.py'

model = dict(
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
    test_cfg=dict(rcnn=dict(mask_thr_binary=None)))
for head in _base_.model.roi_head.bbox_head:
    head.num_classes = 365
boxes = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True)
]
files = dict(
    type='Objects365V2Dataset', data_root='data/Objects365/Obj365_v2/')
val_file = 'annotations/zhiyuan_objv2_val.json'
train_dataloader = dict(
    dataset=dict(
        **files,
        ann_file='annotations/zhiyuan_objv2_train.json',
        data_prefix=dict(img='train/'),
        pipeline=boxes + _base_.resized))
val_dataloader = dict(
    dataset=dict(
        **files,
        ann_file=val_file,
        data_prefix=dict(img='val/'),
        pipeline=_base_.test_pipeline[:2] + boxes[1:] +
        _base_.test_pipeline[3:]))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=files['data_root'] + val_file, metric='bbox')
test_evaluator = val_evaluator
tta_model = dict(type='DetTTAModel')
epochs = 12
train_cfg = dict(max_epochs=epochs)
_base_.param_scheduler[1].update(end=epochs, milestones=[8, 11])
optim_wrapper = dict(optimizer=dict(lr=2e-4))
