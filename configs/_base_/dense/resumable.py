"""How the runs of segmentors and detectors stop and go on, as all of mmfd's.

mmseg's loop counts iterations, and finds its place among the images again by
itself; mmdet's would begin an interrupted epoch anew, so `loop` and `order`
take the places of its loop and sampler.
"""
saves = dict(type='mmfd.ResumableCheckpointHook', minutes=15)
loop = dict(type='mmfd.ResumableLoop')
order = dict(type='mmfd.ResumableSampler')
