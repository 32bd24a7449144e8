"""Residual branches, computed only for the images that drop path keeps."""
import torch


def residual(x, branch, drop_path):
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

    Returns:
        Tensor: (B, L, C).
    """
    rate = drop_path.drop_prob if drop_path.training else 0.
    if not rate:
        return x + branch(x)
    keep = 1 - rate + torch.rand(len(x), device='cpu') >= 1
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
