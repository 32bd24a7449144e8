"""What segmentors and detectors with a Swin V2 share, by size of the network.

Layer decay for heads that are trained with it, and channels of the four maps.
"""
channels = {
    arch: [width * 2**stage for stage in range(4)]
    for arch, width in dict(base=128, large=192, giant=512).items()
}
layerwise = dict(
    type='OptimWrapper',
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay=0.9),
    optimizer=dict(
        type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05))
