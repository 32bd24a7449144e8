"""What detectors with a ViT share, after ViTDet (Li et al., arXiv 2203.16527).

ViTDet's are the pyramid, layer decay, weight decay and windows; lr 1e-4 at
batch 16 is that of Swin's detectors, and assumed.
"""
_base_ = 'jitter.py'

pyramid = dict(type='mmfd.SimplePyramid', in_channels=768, out_channels=256)
layerwise = dict(
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.7),
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1))
last_map = dict(final_norm=False, out_type='featmap')
vitb16 = dict(
    map=dict(last_map, drop_path_rate=0.1, out_indices=[11]),
    # windows as large as the grid of distillation, whose bias table they use
    windows=dict(window_size=14, global_blocks=[2, 5, 8, 11]))
strides = [3.5, 7, 14, 28, 56]  # of the pyramid, on patches of 14 pixels
roi_maps = dict(featmap_strides=strides[:4])
vitl14 = dict(
    map=dict(last_map, drop_path_rate=0.4, out_indices=[23]),
    windows=dict(window_size=16, global_blocks=[5, 11, 17, 23]),
    detector=dict(
        data_preprocessor=dict(pad_size_divisor=28),
        neck=dict(in_channels=1024),
        rpn_head=dict(anchor_generator=dict(strides=strides)),
        roi_head=dict(
            bbox_roi_extractor=roi_maps, mask_roi_extractor=roi_maps)))
