"""What `mmfd finetune` builds on; it adds network, images and amounts."""
_base_ = [
    '../classifier.py',
    '../data/imagenet_finetune.py',
    '../schedules/finetune_vitb.py',
]
