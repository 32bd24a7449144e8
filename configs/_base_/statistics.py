"""Mean and standard deviation of the images networks were trained on.

RGB, 0-255. A base takes them as `_base_.pop('statistics_of')`: popped, because
two bases of one config must not have a key in common.
"""
statistics_of = dict(
    imagenet=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    clip=dict(
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321375, 70.32316305]),
    half=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]))
