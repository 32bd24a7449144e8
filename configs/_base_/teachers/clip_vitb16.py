"""OpenAI CLIP ViT-B/16 as teacher (Radford et al., arXiv 2103.00020)."""
_base_ = '../statistics.py'

teacher = dict(
    type='mmfd.Teacher',
    checkpoint='checkpoints/clip_vitb16.pth',
    source=('OpenAI publishes it under the MIT licence: python tools/'
            'convert.py openai-clip https://openaipublic.azureedge.net/'
            'clip/models/'
            '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/'
            'ViT-B-16.pt checkpoints/clip_vitb16.pth'),
    normalize=dict(type='mmfd.Normalize', **_base_.pop('statistics_of').clip),
    img_size=224,
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        pre_norm=True,
        norm_cfg=dict(type='LN', eps=1e-5),
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
        out_type='raw'),
    neck=dict(type='mmfd.WhiteningNeck'))
