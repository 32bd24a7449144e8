"""UperNet on ADE20K with a Swin-B, by Swin's recipe.

The paper publishes none. The stock file of mmseg: 512 pixels, lr 6e-5 at batch
16, weight decay 0.01, no layer decay.
"""
_base_ = [
    'swin.py', 'resumable.py',
    f'{__import__("mmseg").__path__[0]}/.mim/configs/swin/swin-base-'
    'patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'
]

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.undecayed))
default_hooks = dict(checkpoint=_base_.saves)
