"""Count the bytes and operations of a training step on fake tensors.

Fake tensors have shapes and no memory, so a network of 3 billion parameters
is counted on a laptop in a minute.
"""
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from weakref import WeakSet, finalize

import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmfd.fast.drop_path import as_expected
from mmfd.hosts import kernels, operations
from mmfd.planning import dense
from mmfd.registry import with_teachers
from mmfd.teacher import teachers_in
from mmfd.training import cached_teacher
from mmfd.training.sharding import sharding_units, teacher_backbones
from mmfd.weights.meta_device import allocate, weightless


@dataclass
class StepCount:
    """The bytes and floating-point operations of one training step.

    Attributes:
        saved_bytes: what autograd holds after the forward.
        cast_bytes: weights cast to another precision, while the loss is
            computed.
        peak_bytes: the most at any time, without weights and their gradients.
        full_bytes: the most with the gradients that are there by then.
        teacher_flops, student_flops: of the forward.
        backward_flops: of the student, with what is computed again.
    """
    saved_bytes: int
    cast_bytes: int
    peak_bytes: int
    full_bytes: int
    teacher_flops: int
    student_flops: int
    backward_flops: int = 0

    @property
    def flops(self):
        """Of the whole step."""
        return self.teacher_flops + self.student_flops + self.backward_flops


def count_step(config,
               batch_size,
               img_size,
               device,
               dtype=None,
               recompute=None,
               backward=True,
               weight_dtype=None,
               cuda_attention=False,
               scope='mmpretrain'):
    """Count one training step of the model of a config.

    Of each branch as many images are counted as drop path is expected to
    keep, rounded up. Of a segmentor or detector, without what `dense` leaves
    out.

    Args:
        config (dict): of the model.
        batch_size (int): images.
        img_size (int): their side in pixels.
        device (str): whose kernels and precisions to count. It need not be
            there, except that `backward` on `cuda` needs a GPU. What is
            counted of `cuda` is the same with a GPU and without one.
        dtype (torch.dtype): of autocast. None: none.
        recompute (str): pattern of the names of the blocks that activation
            checkpointing computes again, as `blocks` of `FullySharded`. None:
            none.
        weight_dtype (torch.dtype): of the weights while they are used. None:
            as the model is built.
        cuda_attention (bool): count attention as it is on `cuda`.
        scope (str): the library of names without one in the config.

    Returns:
        StepCount
    """
    model = weightless_model(config, scope)
    attention = nullcontext
    if cuda_attention or device == 'cuda':
        attention = kernels.attention_as_on_cuda
    with operations.fake_tensors(), attention(), as_expected():
        teachers = teachers_in(model)
        networks = [model, *(t.backbone for t in teachers)]
        for network in networks:
            allocate(network, device, weight_dtype)
        for block in sharding_units(model.backbone,
                                    recompute) if recompute else ():
            block.forward = partial(
                checkpoint,
                block.forward,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=lambda: (nullcontext(), attention()))
        images = torch.empty(batch_size, 3, img_size, img_size, device=device)
        samples = _soft_labels(config, batch_size, device)
        packed = []
        with operations.autocast_anywhere(
                device, dtype):  # packing is done once, in no step
            for teacher in teachers:
                teacher.weights_replaced()
                teacher(images)
                packed += teacher.copies()
        counter = StepCounter(
            [w for network in networks for w in network.parameters()],
            [b for network in networks
             for b in network.buffers()] + [images, *packed])
        counter.count_gradients_apart(model)
        of_teachers = []  # operations: minus those before, plus those after
        for teacher in teachers:
            teacher.register_forward_pre_hook(
                lambda *_: of_teachers.append(-counter.flops))
            teacher.register_forward_hook(
                lambda *_: of_teachers.append(counter.flops))
        with counter.watch():
            with operations.autocast_anywhere(device, dtype):
                if dense.is_dense(model):
                    loss = sum(
                        part.float().sum()
                        for part in _tensors([*dense.outputs(model, images)]))
                else:
                    losses = model(images, samples, mode='loss')
                    loss = model.parse_losses(losses)[0]
                cast_bytes = counter.cast_bytes
            saved_bytes, forward = counter.bytes, counter.flops
            if backward:
                loss.backward()
        return StepCount(saved_bytes, cast_bytes,
                         counter.peak_bytes, counter.full_bytes,
                         sum(of_teachers), forward - sum(of_teachers),
                         counter.flops - forward)


def count_test(config, size, device, dtype, scope):
    """The most bytes that a test of one image takes, beside the weights.

    Args:
        size (tuple[int]): (height, width) of the image in pixels.
        config, device, dtype, scope: as of `count_step`.
    """
    model = weightless_model(config, scope).eval()
    with operations.fake_tensors(), kernels.attention_as_on_cuda():
        allocate(model, device)
        image = torch.empty(1, 3, *size, device=device)
        counter = StepCounter(model.parameters(), [image, *model.buffers()])
        with counter.watch(), operations.autocast_anywhere(
                device, dtype), torch.no_grad():
            for _ in dense.outputs(model, image):
                pass
    return counter.peak_bytes + sum(b.nbytes for b in model.buffers())


class StepCounter:
    """Adds up the bytes and floating-point operations of what is watched.

    A tensor counts from the operation that makes it until nothing holds it,
    autograd included. Memory that a kernel allocates and frees within itself
    is not seen. Operations are those of matrix products, attention and
    convolutions.

    Args:
        weights, others (iterable): tensors that do not count, since they were
            there before. Casts of `weights` are also counted by themselves.

    Attributes:
        bytes, cast_bytes: held now.
        peak_bytes: the most `bytes` so far.
        full_bytes: the most so far with gradients that are counted apart.
        flops: so far.
    """

    def __init__(self, weights, others):
        self.bytes = self.cast_bytes = self.gradient_bytes = self.flops = 0
        self.peak_bytes = self.full_bytes = 0
        self.weights = WeakSet(w.untyped_storage() for w in weights)
        self.known = self.weights | WeakSet(o.untyped_storage()
                                            for o in others)

    def count_gradients_apart(self, model):
        """Gradients of weights are in `full_bytes` alone."""

        def count(param):
            self.gradient_bytes += param.grad.nbytes
            self._add(-param.grad.nbytes)

        for param in model.parameters():
            if param.requires_grad:
                param.register_post_accumulate_grad_hook(count)

    def watch(self):
        """Within it, everything that PyTorch computes is counted."""
        return operations.every_operation(self._see)

    def _see(self, func, args, kwargs, output):
        self.flops += operations.flops_of(func, args, kwargs, output)
        is_cast = (
            operations.is_cast(func)
            and args[0].untyped_storage() in self.weights)
        for tensor in _tensors(output):
            self._count(tensor.untyped_storage(), is_cast)

    def _count(self, storage, is_cast):
        if storage not in self.known:
            self.known.add(storage)
            self._add(storage.nbytes(), is_cast)
            finalize(storage, self._add, -storage.nbytes(), is_cast)

    def _add(self, count, is_cast=False):
        self.bytes += count
        self.cast_bytes += count * is_cast
        self.peak_bytes = max(self.peak_bytes, self.bytes)
        self.full_bytes = max(self.full_bytes,
                              self.bytes + self.gradient_bytes)


def target_shapes(config, img_size):
    """(L, C) of what each teacher of a model makes of an image."""
    model = weightless_model(config)
    with operations.fake_tensors():
        for network in [model, *teacher_backbones(model)]:
            allocate(network, 'cpu')
        image = torch.empty(1, 3, img_size, img_size)
        return [
            tuple(teacher(image).shape[1:]) for teacher in teachers_in(model)
        ]


def weightless_model(config, scope='mmpretrain'):
    """Build the model of a config for training, with no memory for weights.

    Activation checkpointing is off: `recompute` of `count_step` turns it on.
    """
    config = dict(config, backbone=dict(config['backbone']))
    if 'with_cp' in config['backbone']:
        config['backbone']['with_cp'] = False
    config.pop('balance', None)  # its gradients are as large as features
    with DefaultScope.overwrite_default_scope(scope), weightless():
        model = MODELS.build(with_teachers(config, _random)).train()
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):  # which no CPU has
            module.__class__ = nn.BatchNorm2d
    return model


def _random(teacher):
    """The config of a teacher that needs neither file nor cache."""
    return dict(cached_teacher.without_cache(teacher), checkpoint='random')


def mmpretrain_scope():
    """Look names of a config without a library up in mmpretrain."""
    return DefaultScope.overwrite_default_scope('mmpretrain')


def _tensors(output):
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from _tensors(part)


def _soft_labels(config, batch_size, device):
    """Samples for a classifier; None for a distillation."""
    classes = (config.get('head') or {}).get('num_classes')
    return [
        DataSample().set_gt_score(torch.empty(classes, device=device))
        for _ in range(batch_size)
    ] if classes else None
