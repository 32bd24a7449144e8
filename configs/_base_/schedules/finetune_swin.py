"""Official fine-tuning of Swin V2-B. The three rates are per 512 images."""
_base_ = 'finetune_vitb.py'

optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.8))
