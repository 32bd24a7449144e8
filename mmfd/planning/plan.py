"""Plan a run: parameters, operations, memory, time and disk of its GPUs.

What can be counted is counted; a quantity that is stated or assumed says so.
"""
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import torch
from mmengine.registry import OPTIMIZERS
from torch import nn

from mmfd.errors import Refused
from mmfd.planning import dense, training_images
from mmfd.planning.count import (count_step, count_test, mmpretrain_scope,
                                 weightless_model)
from mmfd.planning.quantities import Quantity, readable_bytes
from mmfd.registry import branches_of
from mmfd.training.sharding import BLOCKS, sharding_units, teacher_backbones

LIBRARY_BYTES = 2 * 2**30  # of a GPU, taken by CUDA, cuBLAS and NCCL


@dataclass(frozen=True)
class MemorySettings:
    """What can be changed where memory is short."""
    batch_size: int  # images of a GPU
    recompute: bool  # activation checkpointing
    sharded: bool

    def tighter(self, gpus, smallest_batch=1):
        """These settings, then others that need less and less memory."""
        yield self
        tight = replace(self, recompute=True)
        yield tight
        if gpus > 1:
            tight = replace(tight, sharded=True)
            yield tight
        while tight.batch_size >= 2 * smallest_batch:
            tight = replace(tight, batch_size=tight.batch_size // 2)
            yield tight

    def changes(self, before):
        """Options of a config that lead from other settings to these."""
        if self.recompute > before.recompute:
            yield ('activation checkpointing: model.backbone.with_cp=True, or '
                   'the names of the blocks in activation_checkpointing')
        if self.sharded > before.sharded:
            yield ('shards: model_wrapper_cfg.type=mmfd.FullySharded '
                   'model_wrapper_cfg.param_dtype=bfloat16')
        if self.batch_size < before.batch_size:
            yield (f'train_dataloader.batch_size={self.batch_size} and as '
                   'many times more in optim_wrapper.accumulative_counts')


class Plan:
    """What a run needs of each of its GPUs.

    Args:
        cfg (Config): as `launch.config_options.load_config` gives it.
        gpus (int): how many.

    Raises:
        Refused: if there is no GPU.
    """

    def __init__(self, cfg, gpus):
        if gpus < 1:
            raise Refused(f'--gpus {gpus}: plan for one or more')
        self.cfg, self.gpus = cfg, gpus
        self.scope = cfg.get('default_scope') or 'mmengine'
        wrapper = cfg.get('model_wrapper_cfg') or {}
        self.blocks = wrapper.get('blocks', BLOCKS)
        self.shard_teacher = wrapper.get('shard_teacher', True)
        amp = cfg.optim_wrapper.get('type', '').endswith('AmpOptimWrapper')
        sharded = wrapper.get('type') == 'mmfd.FullySharded'
        half = wrapper.get('param_dtype')
        self.dtype = torch.bfloat16 if amp or half else None
        # of the weights that a GPU gathers from the shards
        self.gathered_dtype = None if sharded and not half else self.dtype
        recompute = cfg.model.backbone.get('with_cp') or cfg.get(
            'activation_checkpointing')
        self.settings = MemorySettings(cfg.train_dataloader.batch_size,
                                       bool(recompute), sharded and gpus > 1)
        self.model = weightless_model(cfg.model, self.scope)
        self.dense = dense.is_dense(self.model)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
        self.count = lru_cache(None)(self._count)

    def _count(self, settings):
        """`StepCount` of a step with CUDA's precisions.

        A backward on CUDA needs a GPU, so what it takes beside the tensors
        that were saved for it is counted as on a CPU with CUDA's attention.

        Raises:
            Refused: if the config does not say how large the images are.
        """
        count = partial(
            count_step,
            self.cfg.model,
            settings.batch_size,
            training_images.img_size_of(
                self.cfg.train_dataloader.dataset.pipeline),
            dtype=self.dtype,
            scope=self.scope,
            recompute=self.blocks if settings.recompute else None,
            weight_dtype=self.gathered_dtype if settings.sharded else None)
        cuda = count(device='cuda', backward=False)
        cpu = count(device='cpu', cuda_attention=True)
        peak, full = (
            max(cuda.peak_bytes, cuda.saved_bytes + most - cpu.saved_bytes)
            for most in (cpu.peak_bytes, cpu.full_bytes))
        return replace(
            cpu,
            saved_bytes=cuda.saved_bytes,
            cast_bytes=cuda.cast_bytes,
            peak_bytes=peak,
            full_bytes=full)

    def parameters(self):
        """Quantities: how many numbers each network has."""
        networks = dict(self.model.named_children())
        for name, network in zip(
                branches_of(self.cfg.model), teacher_backbones(self.model)):
            networks[' '.join(('teacher', name)).strip()] = network
        for name, network in networks.items():
            if any(True for _ in network.parameters()):
                yield Quantity(name, _numel(network.parameters()), '',
                               'counted')

    def operations(self):
        """Quantities: floating-point operations of one image."""
        step, images = self.count(self.settings), self.settings.batch_size
        again = 'with what is computed again' * self.settings.recompute
        yield Quantity('teacher', step.teacher_flops / images, 'FLOP',
                       'counted')
        yield Quantity('student', step.student_flops / images, 'FLOP',
                       'counted')
        yield Quantity('backward', step.backward_flops / images, 'FLOP',
                       'counted', again)

    def memory(self, settings):
        """Quantities: bytes of a GPU at its fullest, and their sum."""
        parts = [*self._memory(settings)]
        yield from parts
        yield Quantity('sum', sum(part.value for part in parts), 'B',
                       'assumed',
                       'without what the allocator loses in fragments')

    def _memory(self, settings):
        step, trained = self.count(settings), 4 * _numel(self.trained)
        weights = 4 * _numel(self.model.parameters())
        shards = self.gpus if settings.sharded else 1
        moments = _moments(self.cfg.optim_wrapper.optimizer)
        part = f'1/{shards} of the fp32 ones' if shards > 1 else 'fp32'
        yield Quantity('weights', weights / shards, 'B', 'counted', part)
        if settings.sharded or self.accumulated > 1:  # kept between steps
            yield Quantity('gradients', trained / shards, 'B', 'counted', part)
        else:
            yield Quantity(
                'gradients',
                max(step.full_bytes, trained) - step.peak_bytes, 'B',
                'counted', f'fp32, at the fullest; {readable_bytes(trained)} '
                'after the backward')
        yield Quantity('moments', moments * trained / shards, 'B', 'counted',
                       f'{moments} of the optimizer for each weight')
        for network in teacher_backbones(self.model):
            parts = shards if self.shard_teacher else 1
            weights = 4 * _numel(network.parameters())
            yield Quantity('teacher', weights / parts, 'B', 'counted',
                           f'1/{parts} of it, fp32')
        buffers = sum(
            b.nbytes
            for network in (self.model, *teacher_backbones(self.model))
            for b in network.buffers())
        if buffers >> 20:
            yield Quantity('buffers', buffers, 'B', 'counted',
                           'tables of positions, statistics')
        if settings.sharded:
            yield self._gathered()
        elif self.gpus > 1:
            yield Quantity('buckets', trained, 'B', 'assumed',
                           'where DistributedDataParallel sums gradients')
        if step.cast_bytes >> 20:
            yield Quantity(
                'casts', step.cast_bytes, 'B', 'counted',
                'weights in bf16, kept by autocast or for backward')
        yield Quantity(
            'activations', step.peak_bytes - step.cast_bytes, 'B', 'counted',
            f'of {settings.batch_size} images, ' +
            ('blocks are computed again'
             if settings.recompute else 'all are kept'))
        yield Quantity('libraries', LIBRARY_BYTES, 'B', 'assumed',
                       'CUDA, NCCL')

    def _gathered(self):
        """Weights that a GPU gathers from all shards, for a while.

        Those in no block, and two blocks, since one is fetched ahead: each as
        a buffer and as weights. Then the gradients of one block, and the fp32
        buffer in which they are summed.
        """
        each = (self.gathered_dtype or torch.float32).itemsize
        blocks = [
            _numel(part.parameters())
            for part in sharding_units(self.model.backbone, self.blocks)
        ]
        rest = _numel(self.model.parameters()) - sum(blocks)
        return Quantity(
            'gathered', 2 * rest * each + max(blocks) * (5 * each + 4), 'B',
            'assumed', f'two blocks of {max(blocks) / 1e6:,.0f} M, and '
            f'{rest / 1e6:,.0f} M in none')

    def activations(self):
        """Quantities: bytes without and with activation checkpointing."""
        for recompute in False, True:
            step = self.count(replace(self.settings, recompute=recompute))
            yield Quantity('checkpointed' if recompute else 'all kept',
                           step.peak_bytes - step.cast_bytes, 'B', 'counted')

    def test(self):
        """Quantities: bytes of a GPU in a test, at the largest image of --tta.

        Of a segmentor or detector, on one GPU that holds all weights.
        """
        size = dense.largest_image(self.cfg)
        weights = 4 * _numel(self.model.parameters())
        peak = count_test(self.cfg.model, size, 'cuda', self.dtype, self.scope)
        yield Quantity('weights', weights, 'B', 'counted', 'fp32')
        yield Quantity('activations', peak, 'B', 'counted',
                       'of an image of {} x {} pixels'.format(*size))
        yield Quantity('sum', weights + peak + LIBRARY_BYTES, 'B', 'assumed',
                       'with CUDA')

    @cached_property
    def training_set(self):
        """As of `training_images`, built once."""
        return training_images.training_set(self.cfg)

    def _count_images(self):
        """How many training images there are, and how that is known."""
        if self.training_set is None:
            return training_images.usual_number(self.cfg), 'assumed'
        return len(self.training_set), 'counted'

    def throughput(self, throughput=None, tflops=None):
        """Images per second of one GPU; None if neither number is given."""
        if tflops:
            flops = sum(part.value for part in self.operations())
            return tflops * 1e12 / flops
        return throughput

    def totals(self, throughput=None, tflops=None):
        """Quantities of all epochs: images, operations, time, disk.

        Args:
            throughput (float): images per second of one GPU.
            tflops (float): 10^12 operations per second of one GPU, in the
                place of `throughput`. With neither, no time is given.
        """
        images, how = self._count_images()
        batch_size = self.settings.batch_size * self.gpus
        loop = self.cfg.train_cfg
        epochs = loop.get('max_epochs') or (loop.max_iters * batch_size /
                                            images)
        yield Quantity(
            'batch', batch_size * self.accumulated, '', 'stated',
            f'{self.settings.batch_size} x {self.gpus} GPUs x '
            f'{self.accumulated} accumulated')
        yield Quantity('images', round(images * epochs), '', how,
                       f'{epochs:g} epochs of {images:,}')
        flops = sum(part.value for part in self.operations())
        yield Quantity('operations', images * epochs * flops, 'FLOP', how)
        throughput = self.throughput(throughput, tflops)
        if throughput:
            yield Quantity('time', images * epochs / throughput / self.gpus,
                           's', 'stated', f'{throughput:,.4g} images/s of a '
                           'GPU')
        state = sum(t.nbytes for t in self.model.state_dict().values())
        moments = _moments(self.cfg.optim_wrapper.optimizer)
        yield Quantity(
            'disk',
            checkpoint_bytes(self.cfg, epochs,
                             round(epochs * images) // batch_size,
                             state + 4 * moments * _numel(self.trained)), 'B',
            'counted', 'all checkpoints that are kept')


def advise(plan, gib):
    """A sentence: does a plan fit in GPUs of `gib` GiB? If not, what does?"""
    norms = nn.BatchNorm1d, nn.SyncBatchNorm  # one image has no variance
    # nor has the one point that UperNet pools an image to
    normed = dense.is_segmentor(plan.model) or any(
        isinstance(m, norms) for m in plan.model.modules())
    for settings in plan.settings.tighter(plan.gpus, 2 if normed else 1):
        total = [*plan.memory(settings)][-1].value
        if total <= gib * 2**30:
            changes = [*settings.changes(plan.settings)]
            if not changes:
                return f'It fits in {gib:g} GiB.'
            return (f'It does not fit in {gib:g} GiB. This does, with '
                    f'{readable_bytes(total)}: {"; ".join(changes)}.')
    return (
        f'It does not fit in {gib:g} GiB, with any of these settings: take '
        'more GPUs, larger ones or a smaller network.')


def advise_test(quantities, gib):
    """A sentence: does the largest image of a test fit in `gib` GiB?

    Args:
        quantities (list[Quantity]): of `Plan.test`.
    """
    *_, image, total = quantities
    fits = total.value <= gib * 2**30
    return (
        f'The test of --tta {"fits" if fits else "does not fit"} in '
        f'{gib:g} GiB: it needs {readable_bytes(total.value)} {image.note}' +
        ('.' if fits else ': take smaller scales in tta_pipeline, or '
         'smaller windows in backbone.test_window_size.'))


def checkpoint_bytes(cfg, epochs, iterations, one):
    """Bytes of all checkpoints that a run keeps on disk.

    Args:
        epochs, iterations (int): of the run.
        one (int): bytes of a checkpoint.
    """
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    kept = hook.get('max_keep_ckpts', -1)
    if kept < 0:
        length = epochs if hook.get('by_epoch', True) else iterations
        kept = -(-length // hook.get('interval', 1))
    return (kept + 4) * one  # the best, two interim ones, one half-written


def _moments(optimizer):
    """How many numbers an optimizer keeps for each that it trains."""
    param = nn.Parameter(torch.zeros(2, 3))
    param.grad = torch.zeros(2, 3)
    with mmpretrain_scope():
        optimizer = OPTIMIZERS.build(dict(optimizer, params=[param]))
    optimizer.step()
    return sum(
        isinstance(value, torch.Tensor) and value.shape == param.shape
        for value in optimizer.state[param].values())


def _numel(params):
    return sum(param.numel() for param in params)
