"""UperNet on ADE20K by Swin-B's recipe: all but the backbone.

The paper publishes none. The stock file of mmseg: 512 pixels, lr 6e-5 at batch
16, weight decay 0.01, no layer decay.
"""
_base_ = (f'{__import__("mmseg").__path__[0]}/.mim/configs/swin/swin-base-'
          'patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py')

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            cpb_mlp=dict(decay_mult=0.), logit_scale=dict(decay_mult=0.))))
