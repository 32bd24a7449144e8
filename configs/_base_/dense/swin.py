"""What segmentors and detectors with a Swin share: maps of its four stages."""
maps = dict(drop_path_rate=0.3, pad_small_map=True, out_indices=(0, 1, 2, 3))
undecayed = dict(  # parts of Swin V2
    cpb_mlp=dict(decay_mult=0.),
    logit_scale=dict(decay_mult=0.))
