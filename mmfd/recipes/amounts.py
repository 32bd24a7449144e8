"""How long, in which batches and at which rate, for the images at hand."""
from math import ceil, inf
from typing import NamedTuple

import torch

from mmfd.errors import Refused

PASSES = 240_000  # that all images together go through a network
SMALL_BATCH, LARGE_BATCH = 32, 128
MANY = 20_000  # images, from which on batches are large


class Known(NamedTuple):
    """What is known of one kind of training.

    Attributes:
        epochs (tuple[int]): fewest and most.
        lr (float): peak rate of a network of 96 channels, as in
            `configs/demo`.
        lowest_lr (float): for networks of any width, as in the paper.
        warmup (float): share of the epochs.
    """
    epochs: tuple
    lr: float
    lowest_lr: float
    warmup: float


WIDTH = 96  # channels, for which `lr` is known
DISTILLATION = Known(
    epochs=(30, 1000), lr=2e-3, lowest_lr=2.5e-4, warmup=1 / 20)
FINE_TUNING = Known(epochs=(30, 100), lr=1e-3, lowest_lr=2.5e-4, warmup=1 / 5)


class Amounts(NamedTuple):
    """What was chosen.

    Attributes:
        lr (float): peak learning rate, of a batch of this size.
        warmup (float): in epochs.
        wrapper (str): class that updates the weights.
        why (list[str]): a sentence for each choice.
    """
    epochs: int
    batch_size: int
    lr: float
    warmup: float
    wrapper: str
    why: list

    def settings(self, layer_decay=None):
        """Lines of a config."""
        decay = (f'paramwise_cfg=dict(layer_decay={layer_decay}), '
                 if layer_decay else '')
        interval = max(self.epochs // 10, 1)
        return f'''
lr = {self.lr:g} * 512 / {self.batch_size}  # rates are for 512 images
optim_wrapper = dict(
    type={self.wrapper!r}, {decay}optimizer=dict(lr=lr))
train_cfg = dict(max_epochs={self.epochs}, val_interval={interval})
default_hooks = dict(
    checkpoint=dict(interval={interval}),
    param_scheduler=dict(
        warmup_epochs={self.warmup:g}, warmup_lr=lr / 1000, min_lr=lr / 100))
'''


def choose(known,
           images,
           width,
           epochs=None,
           batch_size=None,
           lr=None,
           amp=None):
    """Choose what is not given.

    Args:
        known (Known): of this kind of training.
        images (int): to train on.
        width (int): channels of the network.
        epochs, batch_size, lr, amp: as asked for; None if not.

    Raises:
        Refused: for a number that is none of these.
    """
    given = dict(epochs=epochs, batch_size=batch_size, lr=lr)
    for name, value in given.items():
        if value is not None and not (isinstance(value, (int, float))
                                      and 0 < value < inf):
            raise Refused(f'{name}={value!r}: a number above 0 is expected')
    if batch_size is not None and batch_size > images:
        raise Refused(f'batch_size={batch_size} of {images:,} images: a batch '
                      f'of {images:,} or fewer is expected')
    fewest, most = known.epochs
    why = []
    if epochs is None:
        epochs = min(max(ceil(PASSES / images), fewest), most)
        why.append(f'{epochs:,} epochs of {images:,} images: '
                   f'{epochs * images:,} passes. {PASSES:,} are wanted, as '
                   f'many as configs/demo has, in {fewest} to {most:,} epochs')
    if batch_size is None:
        usual = SMALL_BATCH if images < MANY else LARGE_BATCH
        batch_size = min(usual, images)
        why.append(f'batches of {batch_size}: {SMALL_BATCH} of fewer than '
                   f'{MANY:,} images, else {LARGE_BATCH}')
    if lr is None:
        lr = max(known.lr * min(1, WIDTH / width), known.lowest_lr)
        why.append(f'learning rate {lr:.2g}: {known.lr:g} for {WIDTH} channels'
                   f', and less in proportion for {width}, but at least '
                   f'{known.lowest_lr:g}')
    if amp is None:
        amp = torch.cuda.is_available()
        why.append('mixed precision, as there is a GPU'
                   if amp else 'full precision, as there is no GPU')
    wrapper = 'mmfd.AmpOptimWrapper' if amp else 'OptimWrapper'
    return Amounts(epochs, batch_size, lr, known.warmup * epochs, wrapper, why)
