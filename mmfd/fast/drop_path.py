"""Residual branches, computed only for the images that keep them."""
import torch


def residual(x, branch, drop_path):
    """x + drop_path(branch(x)), without computing what is dropped.

    An image that loses a branch need not go through it: at the rate 0.2 of
    FD's ViT-B a tenth of the student's work, at the 0.3 of ViT-L and Swin
    15 %. Values and gradients are those of multiplying by zero. Who loses it
    is drawn on the CPU, as the host draws there, so that no GPU is waited for
    to know how many are left.

    Args:
        x (Tensor): (B, L, C).
        branch (callable): tokens of some of the images to the same shape.
        drop_path (DropPath): the host's.
    """
    rate = drop_path.drop_prob if drop_path.training else 0.
    if not rate:
        return x + branch(x)
    keeps = 1 - rate + torch.rand(len(x), device='cpu') >= 1
    weight = 1 / (1 - rate)
    if keeps.all():
        return torch.add(x, branch(x), alpha=weight)
    if not keeps.any():  # windows of no image have no shape: one for nothing
        keeps[0], weight = True, 0.
    kept = keeps.nonzero().flatten().to(x.device, non_blocking=True)
    x, inner = Fork.apply(x, kept)
    added = branch(inner)
    dtype = torch.promote_types(x.dtype, added.dtype)
    return x.to(dtype).index_add(0, kept, added.to(dtype), alpha=weight)


class Fork(torch.autograd.Function):
    """x and x[kept], whose gradients are added up in one pass."""

    @staticmethod
    def forward(ctx, x, kept):
        ctx.save_for_backward(kept)
        return x.view_as(x), x.index_select(0, kept)

    @staticmethod
    def backward(ctx, grad, grad_kept):
        kept, = ctx.saved_tensors
        return grad.index_add(0, kept, grad_kept.to(grad)), None
