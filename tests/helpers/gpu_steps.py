"""Train some steps of configs on the null device; facts of each, as JSON.

    python -m helpers.gpu_steps CASES

CASES is a list, as JSON, of dicts with what `facts` takes, or `plan=` before
what `planned` takes.
"""
import copy
import ctypes
import gc
import json
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from helpers import null_kernels
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample

from mmfd.fast.compile_blocks import compile_blocks
from mmfd.hosts import mmcv_ops, operations
from mmfd.launch import parallel_config
from mmfd.launch.runner import adapt_to_gpus
from mmfd.planning import dense
from mmfd.planning.count import count_step

ROOT = Path(__file__).resolve().parents[2]
COUNTED = 'launches', 'waits', 'to_device', 'from_device'
OPTIM = dict(
    constructor='mmfd.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3),
    clip_grad=dict(max_norm=3.))
FUSED = 'flash_attention', 'efficient_attention'


def facts(config,
          batch,
          dtype='bfloat16',
          side=None,
          steps=4,
          options=None,
          values=None,
          compiled=False,
          fixed=None):
    """What the last of some training steps of a model did.

    Args:
        config (str | dict): path of a config, or config of a model.
        batch (int): images.
        dtype (str): of autocast; `float32` is none.
        side (int): pixels of a side of the images.
        options (dict): changes of the config.
        values (dict): of `null_kernels.computed`, to have the CPU compute what
            kernels would. None: they do nothing.
        compiled (bool): the model, as `compile=True` does.
        fixed (str): weights whose name has it are not trained.

    Returns:
        dict: `fused` and `math`, how many attentions of each kind; what
        `COUNTED` names; `waits_at`, where; `peak`, the most bytes after the
        first step, and `kept`, those between steps; `tensors`, the most that
        was asked for without cuBLAS' workspaces; `host_ms`; `off_device`,
        names of what stayed on the CPU; `dtypes` of the parameters.
    """
    if values is not None:
        with null_kernels.computed(**values):
            return facts(config, batch, dtype, side, steps, options, None,
                         compiled, fixed)
    gc.collect()  # of a case before
    cfg = (
        Config.fromfile(ROOT / config) if isinstance(config, str) else Config(
            dict(model=config, optim_wrapper=OPTIM)))
    cfg.merge_from_dict(options or {})
    if cfg.model.get('teacher'):
        cfg.model.teacher.checkpoint = 'random'
    cfg.model.backbone.pop('init_cfg', None)
    parallel_config.replace_sync_batch_norm(cfg)
    scope = cfg.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model).to('cuda').train()
        wrapper = dict(
            cfg.optim_wrapper, type='mmfd.AmpOptimWrapper', dtype=dtype)
        optim = build_optim_wrapper(model, wrapper)
    for name, weight in model.named_parameters():
        weight.requires_grad &= not fixed or fixed not in name
    adapt_to_gpus(model)
    if compiled:
        compile_blocks(model, True)
    data = samples(cfg, scope, batch, side or side_of(cfg))
    step(model, data, optim)
    kept = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(steps - 2):
        step(model, data, optim)
    before, start = counts(), time.process_time()
    with waits_at() as where:
        step(model, data, optim)
    seconds = time.process_time() - start
    did = {name: value - before[name] for name, value in counts().items()}
    peak = torch.cuda.max_memory_allocated()
    asked = torch.cuda.memory_stats()['requested_bytes.all.peak']
    seen = Counter()
    with operations.every_operation(
            lambda *call: seen.update([kind(call[0])])):
        step(model, data, optim)
    held = torch.cuda.memory_allocated()
    torch._C._cuda_clearCublasWorkspaces()
    workspaces = held - torch.cuda.memory_allocated()
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return dict(
        did,
        fused=seen['fused'],
        math=seen['math'],
        waits_at=where.places,
        peak=peak,
        kept=kept,
        tensors=asked - workspaces,
        host_ms=round(seconds * 1e3),
        off_device=[name for name, x in tensors.items() if not x.is_cuda],
        dtypes=sorted({str(p.dtype)
                       for p in model.parameters()}))


def planned(config, batch, side, dtype='bfloat16'):
    """What `planning` counts of a step on CUDA, forward alone.

    The same on the null device and without it.
    """
    path = isinstance(config, str)
    model = Config.fromfile(ROOT / config).model if path else config
    count = count_step(
        model, batch, side, 'cuda', getattr(torch, dtype), backward=False)
    return vars(count)


def step(model, data, optim):
    """One step, whose numbers a hook would read much later."""
    model.train_step(copy.deepcopy(data), optim)
    optim.take_norm()


def counts():
    """What the null device has counted since the process began."""
    numbers = (ctypes.c_long * len(COUNTED))()
    ctypes.CDLL(None).null_device_counts(numbers)
    return dict(zip(COUNTED, numbers))


def kind(func):
    """Whether an operation is the forward of an attention, and which."""
    name = func.overloadpacket.__name__
    if name.endswith(FUSED):
        return 'fused'
    return 'math' if name == '_safe_softmax' else None


class waits_at:
    """Within it, note where the host waits for the device: `places`."""

    def __enter__(self):
        self.places = Counter()
        self.catch = warnings.catch_warnings()
        self.catch.__enter__()
        warnings.simplefilter('always')
        warnings.showwarning = self.note
        torch.cuda.set_sync_debug_mode('warn')
        return self

    def __exit__(self, *_):
        torch.cuda.set_sync_debug_mode('default')
        self.catch.__exit__()

    def note(self, message, *_, **__):
        if 'called a synchronizing' not in str(message):
            return
        *_, last = [
            frame for frame in traceback.extract_stack()[:-1]
            if not frame.filename.endswith('warnings.py')
            and 'torch/' not in frame.filename
        ]
        folder, _, name = last.filename.rpartition('/')
        self.places[f'{Path(folder).name}/{name}:{last.name}'] += 1


def samples(cfg, scope, batch, side):
    """A batch of black images, with what the model of a config learns."""
    images = torch.zeros(batch, 3, side, side, dtype=torch.uint8)
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample
        size = dict(img_shape=(side, side), ori_shape=(side, side))
        labels = PixelData(data=torch.zeros(1, side, side, dtype=torch.long))
        return dict(
            inputs=[*images],
            data_samples=[SegDataSample(gt_sem_seg=labels, metainfo=size)] *
            batch)
    if scope == 'mmdet':
        return dict(
            inputs=[*images], data_samples=[boxes(side) for _ in range(batch)])
    classes = (cfg.model.get('head') or {}).get('num_classes')
    sample = DataSample().set_gt_label(1) if classes else DataSample()
    return dict(
        inputs=images.pin_memory(),
        data_samples=[sample.clone() for _ in range(batch)])


def boxes(side, count=dense.BOXES):
    """What a detector learns of an image: boxes with masks, in a grid."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    places = torch.arange(count)
    corners = torch.stack([places % 4, places // 4 % 4], 1) * side / 4
    masks = np.zeros((count, side, side), np.uint8)
    for mask, (x, y) in zip(masks, corners.int().tolist()):
        mask[y:y + side // 4, x:x + side // 4] = 1
    size = dict(
        img_shape=(side, side),
        ori_shape=(side, side),
        pad_shape=(side, side),
        batch_input_shape=(side, side),
        scale_factor=(1., 1.))
    return DetDataSample(
        gt_instances=InstanceData(
            bboxes=torch.cat([corners, corners + side / 4], 1),
            labels=torch.zeros(count, dtype=torch.long),
            masks=BitmapMasks(masks, side, side)),
        metainfo=size)


def side_of(cfg):
    """Pixels of a side of the training images."""
    size = cfg.get('crop_size') or cfg.model.backbone.img_size
    return size if isinstance(size, int) else size[0]


def main(cases):
    torch.backends.cudnn.enabled = False  # of which there is no null one
    torch.backends.cuda.enable_cudnn_sdp(False)
    mmcv_ops.install()
    return [(planned if case.pop('plan', False) else facts)(**case)
            for case in cases]


if __name__ == '__main__':
    print(json.dumps(main(json.loads(sys.argv[1]))))
