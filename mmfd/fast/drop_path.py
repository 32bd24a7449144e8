"""Residual branches, computed only for the images that drop path keeps."""
import torch


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
    keep = _drawn(rate, x)
    weight = 1 / (1 - rate)
    if keep.all():
        return torch.add(x, branch(x), alpha=weight)
    if not keep.any():
        # Swin cannot window an empty batch: keep one image, weighted with 0
        keep[0], weight = True, 0.
    kept = keep.nonzero().flatten().to(x.device, non_blocking=True)
    x, inner = SelectKept.apply(x, kept)
    added = branch(inner)
    dtype = torch.promote_types(x.dtype, added.dtype)
    return x.to(dtype).index_add(0, kept, added.to(dtype), alpha=weight)


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
