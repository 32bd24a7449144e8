"""Layer scale, in the product before it."""
import torch
import torch.nn.functional as F


def scaled_linear(linear, x, gamma=None):
    """gamma * linear(x), with the factor in the weights.

    Then nothing of the tokens is kept for the gradient of gamma, an eighth of
    what a ViT's block keeps. Where there are fewer tokens than inputs, as in
    a small batch, less is multiplied after the product. So it is in fp16 too,
    in which the product of a small weight and a small gamma is nothing.

    Args:
        linear (nn.Linear): with a bias.
        x (Tensor): (..., C).
        gamma (Tensor): (C', ). None is 1.
    """
    if gamma is None:
        return linear(x)
    tokens = x.numel() // x.shape[-1]
    if tokens < linear.in_features or x.dtype is torch.float16:
        return gamma * linear(x)
    return F.linear(x, gamma[:, None] * linear.weight, gamma * linear.bias)
