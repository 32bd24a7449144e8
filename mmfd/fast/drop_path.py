"""Residual branches, computed only for the images that drop path keeps."""
from contextlib import contextmanager
from contextvars import ContextVar
from math import ceil

import torch

_draws = ContextVar('draws', default=True)


def residual(x, branch, drop_path, weight=None):
    """x + drop_path(branch(x)).

    An image whose branch is dropped does not go through it. At the rate 0.2
    of FD's ViT-B that saves a tenth of the student's work, at the 0.3 of
    ViT-L and Swin 15 %. Values and gradients are those of multiplying by
    zero. Which images are dropped is drawn on the CPU, as the host draws
    there, so that nothing waits for a GPU to know how many remain.

    Args:
        x (Tensor): (B, L, C).
        branch (callable): tokens of some of the images to the same shape.
        drop_path (DropPath): the host's.
        weight (Tensor): what `weights` has drawn for this branch. Then all
            images go through it, and shapes are the same in every step.

    Returns:
        Tensor: (B, L, C).
    """
    if weight is not None:
        added = branch(x)
        return x + (weight * added).to(added.dtype)
    rate = drop_path.drop_prob if drop_path.training else 0.
    if not rate:
        return x + branch(x)
    kept, weight = _kept(rate, x), 1 / (1 - rate)
    if len(kept) == len(x):
        return torch.add(x, branch(x), alpha=weight)
    if not len(kept):
        # Swin cannot window an empty batch: keep one image, weighted with 0
        kept, weight = torch.zeros(1, dtype=torch.long), 0.
    kept = kept.to(x.device, non_blocking=True)
    x, inner = SelectKept.apply(x, kept)
    added = branch(inner)
    x = x.to(torch.promote_types(x.dtype, added.dtype))
    return AddKept.apply(x, kept, added, weight)


@contextmanager
def as_expected():
    """Within it nothing is drawn: as many images keep a branch as is expected.

    Rounded up. A step on fake tensors, which have no numbers, is counted so.
    """
    token = _draws.set(False)
    try:
        yield
    finally:
        _draws.reset(token)


def weights(drop_path, x):
    """What the two branches of a block are multiplied with, image by image.

    Drawn as `residual` would, one branch after the other.

    Args:
        drop_path (DropPath): the host's.
        x (Tensor): (B, L, C).

    Returns:
        Tensor: (2, B, 1, 1): 0 where the branch of an image is
        dropped, else 1 over the share that is kept; on the device of x.
    """
    rate = drop_path.drop_prob if drop_path.training else 0.
    if not rate:
        return torch.ones(2, len(x), 1, 1, device=x.device)
    keep = torch.stack([_drawn(rate, x) for _ in range(2)])
    drawn = (keep / (1 - rate)).to(x.device, non_blocking=True)
    return drawn[..., None, None]


def _kept(rate, x):
    """Numbers of the images that keep a branch: (K, ), on the CPU."""
    if not _draws.get():
        return torch.arange(ceil(len(x) * (1 - rate)), device='cpu')
    return _drawn(rate, x).nonzero().flatten()


def _drawn(rate, x):
    """Which of the images keep a branch: bool, (B, ), on the CPU."""
    return 1 - rate + torch.rand(len(x), device='cpu') >= 1


class SelectKept(torch.autograd.Function):
    """x and x[kept]; their gradients are added up in one pass."""

    @staticmethod
    def forward(ctx, x, kept):
        ctx.save_for_backward(kept)
        return x.view_as(x), x.index_select(0, kept)

    @staticmethod
    def backward(ctx, grad, grad_kept):
        kept, = ctx.saved_tensors
        return grad.index_add(0, kept, grad_kept.to(grad)), None


class AddKept(torch.autograd.Function):
    """x with weight * added at the images kept.

    The backward of `index_add` keeps what was added, for its shape alone:
    1.2 GiB of a ViT-L of 336 pixels at 16 images. This one keeps `kept`.
    """

    @staticmethod
    def forward(ctx, x, kept, added, weight):
        ctx.save_for_backward(kept)
        ctx.weight, ctx.dtype = weight, added.dtype
        return x.index_add(0, kept, added.to(x.dtype), alpha=weight)

    @staticmethod
    def backward(ctx, grad):
        kept, = ctx.saved_tensors
        grad_added = grad.index_select(0, kept).mul_(ctx.weight)
        return grad, None, grad_added.to(ctx.dtype), None
