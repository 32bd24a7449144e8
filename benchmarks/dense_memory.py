"""What the students need beside their weights at sizes of dense tasks.

    python benchmarks/dense_memory.py

Forward and backward of the backbones are followed on tensors without memory,
operation by operation (`mmfd/planning/plan.py`), so neither a GPU nor the
memory has to be there. `peak` is that of PyTorch's CPU operations, of a whole
step in fp32; `held` is what CUDA's leave for the backward, in fp32 and in
bf16.
"""
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch._subclasses.fake_tensor import FakeTensorMode

from mmfd.planning.plan import Watch, _autocast, _place
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


def follow(student, batch, size, device, dtype=None, backward=False):
    """Bytes held after the forward, and the most at once."""
    config = Config.fromfile(f'configs/{student[0]}.py').model.backbone
    with weightless():
        model = MODELS.build(
            dict(config, **student[1], init_cfg=None, drop_path_rate=0.))
    model.train()  # without drop path, so that every image is counted
    with FakeTensorMode(allow_non_fake_inputs=True):
        _place(model, device, None)
        images = torch.empty(batch, 3, *size, device=device)
        watch = Watch(model.parameters(), [images, *model.buffers()])
        for param in model.parameters():  # gradients are weights' size
            param.register_post_accumulate_grad_hook(
                lambda p: watch.take(-p.grad.nbytes))
        with watch:
            with _autocast(device, dtype):
                loss = sum(found.float().sum() for found in model(images))
            held = watch.bytes
            if backward:
                loss.backward()
    return held / 2**30, watch.peak / 2**30


def main():
    print(f'{"GiB":32}{"batch":6}{"pixels":12}{"settings":18}{"peak":>8}'
          f'{"held":>8}{"bf16":>8}')
    for name, batch, height, width, settings in ROWS:
        student, size = (name, settings), (height, width)
        cells = [follow(student, batch, size, 'cpu', backward=True)[1]]
        if not settings.get('with_cp'):  # else next to nothing
            cells += [
                follow(student, batch, size, 'cuda', dtype)[0]
                for dtype in (None, torch.bfloat16)
            ]
        said = ', '.join(f'{k}={v}' for k, v in settings.items())
        print(
            f'{name:32}{batch:<6}{f"{height} x {width}":12}{said:18}' +
            ''.join(f'{gib:8.1f}' for gib in cells),
            flush=True)


if __name__ == '__main__':
    main()
