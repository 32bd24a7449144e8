"""Before: linear probe of DINO ViT-B/16 itself on ImageNet-1K.

The paper's 78.2 % is DINO as it was published, by a protocol of its own, from
the cls token and the mean patch. Assumed here are the cls token after the last
norm and the recipe of the students: 90 epochs at batch 16384, 16 GPUs x 1024
images.

    python tools/train.py configs/classification/dino_vitb_linear.py
"""
_base_ = 'dino_vitb_fd_linear.py'

source = _base_.teacher.source
model = dict(backbone=dict(_base_.before, _delete_=True, out_type='cls_token'))
