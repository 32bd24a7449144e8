"""UperNet on ADE20K with a ViT-L/14: crops that patches of 14 pixels divide.

Assumed: the recipe of ViT-B/16, with the layer decay of FD's own fine-tuning
of ViT-L.
"""
_base_ = 'upernet_vitb16.py'

crop_size = (504, 504)
maps = dict(img_size=504, drop_path_rate=0.2, out_indices=[7, 11, 15, 23])
model = dict(
    data_preprocessor=dict(size=crop_size),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
    test_cfg=dict(crop_size=crop_size, stride=(336, 336)))
train_pipeline = _base_.train_pipeline
train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=0.75))
