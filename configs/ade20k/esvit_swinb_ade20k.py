"""Before: EsViT Swin-B itself, UperNet on ADE20K: 47.3 mIoU in the paper.

    tools/dist_train.sh configs/ade20k/esvit_swinb_ade20k.py 8
"""
_base_ = [
    '../_base_/upernet_ade20k_swin.py',
    '../_base_/teachers/esvit_swinb.py',
]

model = dict(
    backbone=dict(
        _base_.teacher.backbone,
        _delete_=True,
        drop_path_rate=0.3,
        pad_small_map=True,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(type='Pretrained',
                      checkpoint=_base_.teacher.checkpoint)))
