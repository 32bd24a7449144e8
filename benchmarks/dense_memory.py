"""What the students need beside their weights at sizes of dense tasks.

    python benchmarks/dense_memory.py

Forward and backward of the backbones run on tensors without memory
(`mmfd/planning/count.py`), so neither a GPU nor the memory has to be there.
`peak` is of PyTorch's CPU operations, of a whole step in fp32; `saved` is what
CUDA's save for the backward, in fp32 and in bf16.
"""
from contextlib import nullcontext

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.hosts import kernels, operations
from mmfd.planning.count import StepCounter, allocate
from mmfd.weights.meta_device import weightless

UPERNET = 'ade20k/{}_fd_ade20k'
DETECTOR = 'coco/{}_fd_mask_rcnn_3x'
ROWS = [  # config of the student, batch, height, width, settings
    (UPERNET.format('clip_vitb'), 2, 512, 512, {}),
    (UPERNET.format('clip_vitl'), 2, 504, 504, {}),
    (UPERNET.format('esvit_swinb'), 2, 512, 512, {}),
    (DETECTOR.format('clip_vitb'), 1, 1024, 1024, dict(window_size=0)),
    (DETECTOR.format('clip_vitb'), 1, 1024, 1024, {}),
    (DETECTOR.format('clip_vitb'), 1, 1024, 1024, dict(with_cp=True)),
    (DETECTOR.format('clip_vitb'), 1, 800, 1344, {}),
    (DETECTOR.format('clip_vitl'), 1, 1036, 1036, {}),
    (DETECTOR.format('clip_vitl'), 1, 1036, 1036, dict(with_cp=True)),
    (DETECTOR.format('esvit_swinb'), 1, 800, 1344, {}),
    (DETECTOR.format('esvit_swinb'), 1, 800, 1344, dict(with_cp=True)),
]


def count(student, batch, size, device, dtype=None, backward=False):
    """GiB saved for the backward, and the most at any time."""
    config = Config.fromfile(f'configs/{student[0]}.py').model.backbone
    with weightless():
        model = MODELS.build(
            dict(config, **student[1], init_cfg=None, drop_path_rate=0.))
    model.train()  # without drop path, so that every image is counted
    with operations.fake_tensors(), (kernels.attention_as_on_cuda()
                                     if device == 'cuda' else nullcontext()):
        allocate(model, device)
        images = torch.empty(batch, 3, *size, device=device)
        counter = StepCounter(model.parameters(), [images, *model.buffers()])
        counter.ignore_gradients(model)
        with counter.watch():
            with operations.autocast_anywhere(device, dtype):
                loss = sum(featmap.float().sum() for featmap in model(images))
            saved = counter.bytes
            if backward:
                loss.backward()
    return saved / 2**30, counter.peak_bytes / 2**30


def main():
    print(f'{"GiB":32}{"batch":6}{"pixels":12}{"settings":18}{"peak":>8}'
          f'{"saved":>8}{"bf16":>8}')
    for name, batch, height, width, settings in ROWS:
        student, size = (name, settings), (height, width)
        cells = [count(student, batch, size, 'cpu', backward=True)[1]]
        if not settings.get('with_cp'):  # else next to nothing
            cells += [
                count(student, batch, size, 'cuda', dtype)[0]
                for dtype in (None, torch.bfloat16)
            ]
        text = ', '.join(f'{k}={v}' for k, v in settings.items())
        print(
            f'{name:32}{batch:<6}{f"{height} x {width}":12}{text:18}' +
            ''.join(f'{gib:8.1f}' for gib in cells),
            flush=True)


if __name__ == '__main__':
    main()
