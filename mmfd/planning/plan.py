"""What a run will need: parameters, operations, memory, time and disk.

Nothing is guessed that can be counted. One step of training is followed on
fake tensors, which have shapes and no memory, so that a network of 3 billion
parameters is planned on a laptop in a minute.
"""
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from weakref import WeakSet, finalize

import torch
from mmcv.cnn.bricks import DropPath
from mmengine.registry import DATASETS, MODELS, OPTIMIZERS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from mmfd.errors import Refused
from mmfd.planning.quantities import Quantity, readable_bytes
from mmfd.training import cached_teacher
from mmfd.training.sharding import BLOCKS, sharding_units, teacher_backbones
from mmfd.weights.meta_device import weightless

IMAGENET = 1_281_167  # training images of ImageNet-1K
LIBRARIES = 2 * 2**30  # bytes that CUDA, cuBLAS and NCCL take for themselves
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
SCOPE = partial(DefaultScope.overwrite_default_scope, 'mmpretrain')


class Watch(TorchDispatchMode):
    """Add up the bytes and the operations of what is computed in it.

    A tensor counts from the operation that makes it until nothing holds it,
    autograd included; what an operation allocates within itself is not seen.
    Operations are those of matrix products, attention and convolutions.

    Args:
        weights, others (iterable): tensors that are there before, and do not
            count.
    """

    def __init__(self, weights, others):
        super().__init__()
        self.bytes = self.peak = self.casts = self.operations = 0
        self.weights = WeakSet(w.untyped_storage() for w in weights)
        self.seen = self.weights | WeakSet(tensor.untyped_storage()
                                           for tensor in others)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if func.overloadpacket is CPU_ATTENTION:  # unknown to the registry
            self.operations += sdpa_flop_count(*(t.shape for t in args[:3]))
        elif formula:
            self.operations += formula(*args, **kwargs, out_val=out)
        cast = (
            func is torch.ops.aten._to_copy.default
            and args[0].untyped_storage() in self.weights)
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage(), cast)
        return out

    def _follow(self, storage, cast):
        if storage not in self.seen:
            self.seen.add(storage)
            self.take(storage.nbytes(), cast)
            finalize(storage, self.take, -storage.nbytes(), cast)

    def take(self, count, cast=False):
        self.bytes += count
        self.casts += count * cast
        self.peak = max(self.peak, self.bytes)


@dataclass
class Step:
    """What one step of training was seen to take.

    Attributes:
        kept (int): bytes that autograd holds after the forward.
        casts (int): bytes of weights in another precision, while the loss is
            computed.
        peak (int): most bytes at once, beside weights and their gradients.
        teacher, forward, backward (int): floating-point operations of the
            teacher, of the student, and of its backward with all that is
            computed again.
    """
    kept: int
    casts: int
    peak: int
    teacher: int
    forward: int
    backward: int = 0


def follow(config,
           batch,
           side,
           device,
           dtype=None,
           recompute=None,
           backward=True,
           gathered=None):
    """One step of a model of fake tensors.

    Args:
        config (dict): of the model.
        batch, side (int): images, and their pixels in each direction.
        device (str): whose operations and precisions to follow; it need not
            be there, except that `backward` on `cuda` needs a GPU.
        dtype (torch.dtype): compute in it under autocast.
        recompute (str): name of the blocks that activation checkpointing
            computes again, as in `FullySharded`. None keeps all.
        gathered (torch.dtype): of the weights when they are used.

    Returns:
        Step
    """
    model = build(config)
    with FakeTensorMode(allow_non_fake_inputs=True):
        networks = [model, *teacher_backbones(model)]
        for network in networks:
            _place(network, device, gathered)
        for block in sharding_units(model.backbone,
                                    recompute) if recompute else ():
            block.forward = partial(
                checkpoint,
                block.forward,
                use_reentrant=False,
                preserve_rng_state=False)
        inputs = torch.empty(batch, 3, side, side, device=device)
        samples = _samples(config, batch, device)
        own = []
        with _autocast(device, dtype):  # what is cast once, not in a step
            for _ in teacher_backbones(model):
                model.teacher.weights_replaced()
                model.teacher(inputs)
                own += model.teacher.copies()
        watch = Watch([
            weight for network in networks for weight in network.parameters()
        ], [
            inputs, *own, *(b for network in networks
                            for b in network.buffers())
        ])
        for param in model.parameters():  # their gradients are counted apart
            if param.requires_grad:
                param.register_post_accumulate_grad_hook(
                    lambda p: watch.take(-p.grad.nbytes))
        with watch:
            with _autocast(device, dtype):
                for _ in teacher_backbones(model):
                    model.teacher(inputs)
                teacher = watch.operations
                losses = model(inputs, samples, mode='loss')
                loss = model.parse_losses(losses)[0]
                casts = watch.casts
            kept, forward = watch.bytes, watch.operations - teacher
            if backward:
                loss.backward()
        backward = watch.operations - teacher - forward
        return Step(kept, casts, watch.peak, teacher, forward - teacher,
                    backward)


def build(config):
    """The model that a config describes, without weights.

    In it no image loses a branch to drop path: all may keep theirs.
    """
    config = dict(config, backbone=dict(config['backbone']))
    if 'with_cp' in config['backbone']:
        config['backbone']['with_cp'] = False  # `recompute` is in its place
    if 'teacher' in config:
        config['teacher'] = dict(
            cached_teacher.without_cache(config['teacher']),
            checkpoint='random')
    with SCOPE(), weightless():
        model = MODELS.build(config).train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.eval()
    return model


def _place(network, device, dtype):
    """Make parameters, in `dtype` if given, and buffers on `device`."""
    for module in network.modules():
        for name, param in [*module.named_parameters(recurse=False)]:
            values = torch.empty(
                param.shape, dtype=dtype or param.dtype, device=device)
            module._parameters[name] = nn.Parameter(values,
                                                    param.requires_grad)
        for name, buffer in [*module.named_buffers(recurse=False)]:
            module._buffers[name] = torch.empty(
                buffer.shape, dtype=buffer.dtype, device=device)


def _samples(config, batch, device):
    """Soft labels, for a classifier."""
    classes = (config.get('head') or {}).get('num_classes')
    return [
        DataSample().set_gt_score(torch.empty(classes, device=device))
        for _ in range(batch)
    ] if classes else None


@contextmanager
def _autocast(device, dtype):
    """`torch.autocast`, which turns itself off where the device is not."""
    if dtype is None:
        yield
        return
    torch.set_autocast_dtype(device, dtype)
    torch.set_autocast_enabled(device, True)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, False)


@dataclass(frozen=True)
class Setting:
    """What can be turned where memory is short."""
    batch: int  # images of a GPU
    recompute: bool  # activation checkpointing
    sharded: bool

    def tighter(self, gpus):
        """Settings that need less and less, beginning with this."""
        yield self
        tight = replace(self, recompute=True)
        yield tight
        if gpus > 1:
            tight = replace(tight, sharded=True)
            yield tight
        while tight.batch > 1:
            tight = replace(tight, batch=tight.batch // 2)
            yield tight

    def turned(self, before):
        """What has been turned, in words."""
        if self.recompute > before.recompute:
            yield ('activation checkpointing: model.backbone.with_cp=True, or '
                   'the names of the blocks in activation_checkpointing')
        if self.sharded > before.sharded:
            yield ('shards: model_wrapper_cfg.type=mmfd.FullySharded '
                   'model_wrapper_cfg.param_dtype=bfloat16')
        if self.batch < before.batch:
            yield (f'train_dataloader.batch_size={self.batch} and as many '
                   'times more in optim_wrapper.accumulative_counts')


class Plan:
    """What a config asks of each of `gpus` GPUs.

    Args:
        cfg (Config): as `launch.load_config` gives it.
        gpus (int): how many.

    Raises:
        Refused: if there is no GPU, or no size of images in the config.
    """

    def __init__(self, cfg, gpus):
        if gpus < 1:
            raise Refused(f'--gpus {gpus}: plan for one or more')
        self.cfg, self.gpus = cfg, gpus
        wrapper = cfg.get('model_wrapper_cfg') or {}
        self.blocks = wrapper.get('blocks', BLOCKS)
        self.shard_teacher = wrapper.get('shard_teacher', True)
        amp = cfg.optim_wrapper.type.endswith('AmpOptimWrapper')
        sharded = wrapper.get('type') == 'mmfd.FullySharded'
        half = wrapper.get('param_dtype')
        self.dtype = torch.bfloat16 if amp or half else None
        self.gathered = None if sharded and not half else self.dtype
        recompute = cfg.model.backbone.get('with_cp') or cfg.get(
            'activation_checkpointing')
        self.setting = Setting(cfg.train_dataloader.batch_size,
                               bool(recompute), sharded and gpus > 1)
        self.model = build(cfg.model)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.step = lru_cache(None)(self._step)

    def _step(self, setting):
        """One step of `setting`, with the precisions of CUDA.

        Backward on CUDA needs a GPU; what it takes beside the tensors that
        were kept for it is followed as on a CPU.
        """
        follow_it = partial(
            follow,
            self.cfg.model,
            setting.batch,
            side_of(self.cfg.train_dataloader.dataset.pipeline),
            dtype=self.dtype,
            recompute=self.blocks if setting.recompute else None,
            gathered=self.gathered if setting.sharded else None)
        there = follow_it(device='cuda', backward=False)
        whole = follow_it(device='cpu')
        return replace(
            whole,
            kept=there.kept,
            casts=there.casts,
            peak=max(there.peak, there.kept + whole.peak - whole.kept))

    def parameters(self):
        networks = dict(self.model.named_children())
        for network in teacher_backbones(self.model):
            networks['teacher'] = network
        for name, network in networks.items():
            if any(True for _ in network.parameters()):
                yield Quantity(name, _numbers(network.parameters()), '',
                               'counted')

    def operations(self):
        """Of one image, in floating-point operations."""
        step, batch = self.step(self.setting), self.setting.batch
        again = 'with what is computed again' * self.setting.recompute
        yield Quantity('teacher', step.teacher / batch, 'FLOP', 'counted')
        yield Quantity('student', step.forward / batch, 'FLOP', 'counted')
        yield Quantity('backward', step.backward / batch, 'FLOP', 'counted',
                       again)

    def memory(self, setting):
        """Of a GPU at its fullest, as if all gradients were there by then."""
        figures = [*self._memory(setting)]
        yield from figures
        yield Quantity('sum', sum(figure.value for figure in figures), 'B',
                       'assumed',
                       'without what the allocator loses in fragments')

    def _memory(self, setting):
        step, trained = self.step(setting), 4 * _numbers(self.trained)
        weights = 4 * _numbers(self.model.parameters())
        share = self.gpus if setting.sharded else 1
        moments = _moments(self.cfg.optim_wrapper.optimizer)
        part = f'1/{share} of the fp32 ones' if share > 1 else 'fp32'
        yield Quantity('weights', weights / share, 'B', 'counted', part)
        yield Quantity('gradients', trained / share, 'B', 'counted', part)
        yield Quantity('moments', moments * trained / share, 'B', 'counted',
                       f'{moments} of the optimizer for each weight')
        for network in teacher_backbones(self.model):
            parts = share if self.shard_teacher else 1
            yield Quantity('teacher',
                           4 * _numbers(network.parameters()) / parts, 'B',
                           'counted', f'1/{parts} of it, fp32')
        if setting.sharded:
            yield self._gathered()
        elif self.gpus > 1:
            yield Quantity('buckets', trained, 'B', 'assumed',
                           'where DistributedDataParallel sums gradients')
        if step.casts >> 20:
            yield Quantity(
                'casts', step.casts, 'B', 'counted',
                'weights in bf16, kept by autocast or for backward')
        yield Quantity(
            'activations', step.peak - step.casts, 'B', 'counted',
            f'of {setting.batch} images, ' +
            ('blocks are computed again'
             if setting.recompute else 'all are kept'))
        yield Quantity('libraries', LIBRARIES, 'B', 'assumed', 'CUDA, NCCL')

    def _gathered(self):
        """Weights that are whole for a while.

        What is in no block, and two blocks, of which one is fetched ahead,
        each as a buffer and as weights; the gradients of one, and the fp32
        buffer in which they are summed.
        """
        each = (self.gathered or torch.float32).itemsize
        blocks = [
            _numbers(part.parameters())
            for part in sharding_units(self.model.backbone, self.blocks)
        ]
        rest = _numbers(self.model.parameters()) - sum(blocks)
        return Quantity(
            'gathered', 2 * rest * each + max(blocks) * (5 * each + 4), 'B',
            'assumed', f'two blocks of {max(blocks) / 1e6:,.0f} M, and '
            f'{rest / 1e6:,.0f} M in none')

    def activations(self):
        """Of a GPU, in bytes: the two ways."""
        for recompute in False, True:
            step = self.step(replace(self.setting, recompute=recompute))
            yield Quantity('checkpointed' if recompute else 'all kept',
                           step.peak - step.casts, 'B', 'counted')

    def time(self, throughput=None, tflops=None):
        """Of all epochs.

        Args:
            throughput (float): images per second of one GPU, as measured.
            tflops (float): 10^12 operations per second of one GPU, in its
                place.
        """
        images, how = _images(self.cfg.train_dataloader.dataset)
        epochs = self.cfg.train_cfg.max_epochs
        accumulated = self.cfg.optim_wrapper.get('accumulative_counts', 1)
        batch = self.setting.batch * self.gpus
        yield Quantity(
            'batch', batch * accumulated, '', 'stated',
            f'{self.setting.batch} x {self.gpus} GPUs x {accumulated} '
            'accumulated')
        yield Quantity('images', images * epochs, '', how,
                       f'{epochs} epochs of {images:,}')
        work = sum(figure.value for figure in self.operations())
        yield Quantity('operations', images * epochs * work, 'FLOP', how)
        if tflops:
            throughput = tflops * 1e12 / work
        if throughput:
            yield Quantity('time', images * epochs / throughput / self.gpus,
                           's', 'stated',
                           f'{throughput:,.4g} images/s of a GPU')
        state = sum(t.nbytes for t in self.model.state_dict().values())
        moments = _moments(self.cfg.optim_wrapper.optimizer)
        yield Quantity(
            'disk',
            checkpoint_bytes(self.cfg, epochs, epochs * images // batch,
                             state + 4 * moments * _numbers(self.trained)),
            'B', 'counted', 'all checkpoints that are kept')


def checkpoint_bytes(cfg, epochs, iterations, one):
    """Bytes of all checkpoints that a run will keep, if `one` has so many."""
    hook = cfg.default_hooks.get('checkpoint') or {}
    kept = hook.get('max_keep_ckpts', -1)
    if kept < 0:
        length = epochs if hook.get('by_epoch', True) else iterations
        kept = -(-length // hook.get('interval', 1))
    return (kept + 4) * one  # the best, two interim ones, one half-written


def verdict(plan, gib):
    """Whether a plan fits in GPUs of so many GiB, and what to turn if not."""
    for setting in plan.setting.tighter(plan.gpus):
        total = [*plan.memory(setting)][-1].value
        if total <= gib * 2**30:
            turned = list(setting.turned(plan.setting))
            if not turned:
                return f'It fits in {gib:g} GiB.'
            return (f'It does not fit in {gib:g} GiB. This does, with '
                    f'{readable_bytes(total)}: {"; ".join(turned)}.')
    return (f'It does not fit in {gib:g} GiB, whatever is turned: take more '
            'GPUs, larger ones or a smaller network.')


def _numbers(params):
    return sum(param.numel() for param in params)


def _moments(optimizer):
    """Numbers that an optimizer keeps for each that it trains."""
    param = nn.Parameter(torch.zeros(2, 3))
    param.grad = torch.zeros(2, 3)
    with SCOPE():
        optimizer = OPTIMIZERS.build(dict(optimizer, params=[param]))
    optimizer.step()
    return sum(
        isinstance(value, torch.Tensor) and value.shape == param.shape
        for value in optimizer.state[param].values())


def side_of(pipeline):
    """Side of the training images in pixels: of the last crop or resize."""
    sides = [
        step.get('crop_size', step.get('scale')) for step in _steps(pipeline)
        if 'crop_size' in step or 'scale' in step
    ]
    if not sides:
        raise Refused('the size of the images is not known: '
                      'train_dataloader.dataset.pipeline has no crop or '
                      'resize')
    return sides[-1] if isinstance(sides[-1], int) else sides[-1][0]


def _steps(pipeline):
    """Transforms one by one, those within others too."""
    for step in pipeline:
        if 'transforms' in step:
            yield from _steps(step['transforms'])
        else:
            yield step.get('crop', step)


def target_of(config, side):
    """(L, C) of what a model's teacher makes of an image."""
    model = build(config)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for network in [model, *teacher_backbones(model)]:
            _place(network, 'cpu', None)
        return tuple(model.teacher(torch.empty(1, 3, side, side)).shape[1:])


def _images(dataset):
    """How many training images, and how that is known."""
    roots = dataset.data_root
    roots = [roots] if isinstance(roots, str) else roots
    if not all(os.path.isdir(root) for root in roots):
        return IMAGENET, 'assumed'
    with SCOPE():
        return len(DATASETS.build(dataset)), 'counted'
