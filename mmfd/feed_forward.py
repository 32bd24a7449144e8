"""Feed-forward networks that keep less for their backward."""
import torch
from torch.autograd.graph import saved_tensors_hooks


def feed_forward(ffn, x):
    """The host's `FFN` of tokens, which does not keep what its GELU gives.

    The GELU keeps its input for its own gradient. From that its output, which
    the second product needs for the gradient of its weights, is computed once
    more: a fifth less is kept of a ViT's block, and gradients are bit for bit
    the same.

    Args:
        ffn (FFN): mmcv's, of two products.
        x (Tensor): (B, L, C).
    """
    (first, act, dropout), *rest = ffn.layers
    if dropout.p and dropout.training:  # what it drops would be drawn anew
        return ffn(x)
    hidden = first(x)
    active = act(hidden)
    kept, storage = hidden.detach(), active.untyped_storage()._cdata

    def pack(tensor):
        same = tensor.untyped_storage()._cdata == storage
        return tensor.shape if same else tensor

    def unpack(packed):
        return packed if torch.is_tensor(packed) else act(kept).view(packed)

    with saved_tensors_hooks(pack, unpack):
        for layer in rest:
            active = layer(active)
    return ffn.dropout_layer(ffn.gamma2(active))
