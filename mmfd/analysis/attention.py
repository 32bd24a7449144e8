"""Record the attention maps of any backbone, without editing it.

Every backbone computes attention by one of two functions: a softmax, or
PyTorch's fused attention, whose map is computed again from its arguments. So
one recorder serves the backbones of mmpretrain, timm, transformers and mmfd,
with and without windows.
"""
from math import isqrt, prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from mmfd.errors import Refused
from mmfd.networks.token_layout import grid_of, layout_inside

SOFTMAX = (F.softmax, torch.softmax, torch.Tensor.softmax)
MAX_EXTRA = 5  # tokens before the patches: cls, distillation, registers


class AttentionMap(NamedTuple):
    """What the tokens of one layer attend to.

    Attributes:
        layer: name of the module.
        weights: (B, W, H, L, L) fp32, a row for each query. W is the number
            of windows in an image, 1 without windows.
        positions: (W, L - extra, 2), centres of the patches in pixels, (row,
            column). Those of a shifted window are where its patches are.
        extra: number of tokens before the patches.
    """
    layer: str
    weights: torch.Tensor
    positions: torch.Tensor
    extra: int


class AttentionRecorder(TorchFunctionMode):
    """Within it, call `consume` with each attention map of a backbone.

    Only one map is in memory at a time.

    Args:
        backbone (nn.Module): it is called with images (B, 3, H, W).
        consume (Callable): takes an `AttentionMap`.

    Attributes:
        refused (dict): layer -> why its maps, which lie on no square grid,
            were left out.
    """

    def __init__(self, backbone, consume):
        super().__init__()
        self.backbone, self.consume = backbone, consume
        self.running = []  # (name, module, arguments), the innermost last
        self.refused = {}
        self.handles, self.count = [], 0
        self.prefix = layout_inside(backbone).prefix

    def __enter__(self):
        for name, module in self.backbone.named_modules():
            self.handles += [
                module.register_forward_pre_hook(self._enter(name)),
                module.register_forward_hook(self._leave, always_call=True)
            ]
        return super().__enter__()

    def __exit__(self, *error):
        while self.handles:
            self.handles.pop().remove()
        self.running.clear()
        return super().__exit__(*error)

    def _enter(self, name):

        def hook(module, args):
            if module is self.backbone:
                self.count = 0
            self.running.append((name, module, args))

        return hook

    def _leave(self, module, args, output):
        self.running.pop()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        # functions called in here do not come here again
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self.running and func in SOFTMAX:
            self._record(output)
        elif self.running and func is F.scaled_dot_product_attention:
            self._record(attention_weights(*args, **kwargs))
        return output

    def _record(self, weights):
        if weights.ndim != 4 or weights.shape[-1] != weights.shape[-2]:
            return  # attention is (B W, H, L, L)
        layer = self._layer()
        images = self.running[0][2][0]
        windows, length = len(weights) // len(images), weights.shape[-1]
        try:
            self._check_not_padded(windows * length)
            positions, extra = token_positions(images.shape[-2:], windows,
                                               length, self._shift(windows),
                                               self.prefix)
        except Refused as error:
            self.refused[layer] = str(error)
            return
        self.consume(
            AttentionMap(layer,
                         weights.unflatten(0, (-1, windows)).float(),
                         positions.to(weights.device), extra))

    def _layer(self):
        self.count += 1
        names = [
            name for name, module, _ in self.running if [*module.children()]
        ]
        return names[-1] or f'layer {self.count}'

    def _shifting(self):
        """The innermost module that shifts windows, and its arguments."""
        shifting = [(module, args) for _, module, args in self.running
                    if hasattr(module, 'shift_size')]
        return shifting[-1] if shifting else (None, ())

    def _shift(self, windows):
        module, _ = self._shifting()
        if module is None:
            return 0
        padding = hasattr(module, 'pad_small_map') and module.pad_small_map
        if windows == 1 and not padding:
            return 0  # hosts do not shift a window as large as the map
        shift = module.shift_size
        return shift if isinstance(shift, int) else shift[0]

    def _check_not_padded(self, slots):
        _, args = self._shifting()
        if args and prod(args[0].shape[1:-1]) != slots:
            raise Refused(
                f'{prod(args[0].shape[1:-1])} tokens were padded to {slots} '
                'to fill the windows: use images of a size that they divide')


def attention_weights(query,
                      key,
                      value,
                      attn_mask=None,
                      dropout_p=0.,
                      is_causal=False,
                      scale=None,
                      enable_gqa=False):
    """The map (B, H, L, L) in fp32 that fused attention does not return.

    Arguments as of `F.scaled_dot_product_attention`.
    """
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scale = query.shape[-1]**-0.5 if scale is None else scale
    logits = query.float() @ key.float().transpose(-2, -1) * scale
    if is_causal:
        attn_mask = torch.ones_like(logits[0, 0], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        logits = logits.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        logits = logits + attn_mask
    return logits.softmax(-1)


def token_positions(size, windows, length, shift=0, prefix=None):
    """Centres of the patches of square windows on a square map, or of a map.

    Args:
        size (tuple[int]): (height, width) of the image in pixels.
        windows (int): how many there are, row by row.
        length (int): tokens in each: extra ones, then the patches.
        shift (int): by how many patches the map was rolled, up and left.
        prefix (int | None): how many extra ones the network says it has. If
            it does not say, or has windows, the patches make a square.

    Returns:
        tuple: positions (windows, length - extra, 2) in pixels; extra, the
        number of tokens before the patches.

    Raises:
        Refused: if windows or tokens make no square.
    """
    if windows == 1 and prefix is not None:
        grid = grid_of(length - prefix, size)
        if grid is None:
            raise Refused(f'{length} tokens, {prefix} of them before the map, '
                          f'make no grid on {size[0]} x {size[1]} pixels')
        centres = [(torch.arange(count) + 0.5) * pixels / count
                   for count, pixels in zip(grid, size)]
        positions = torch.stack(torch.meshgrid(*centres, indexing='ij'), -1)
        return positions.flatten(0, 1)[None], prefix
    side, across = isqrt(length), isqrt(windows)
    extra = length - side**2
    if extra > MAX_EXTRA or across**2 != windows:
        raise Refused(f'{windows} windows of {length} tokens are no '
                      'square map')
    index = (torch.arange(side * across) + shift) % (side * across)
    centres = [(index + 0.5) * pixels / len(index) for pixels in size]
    positions = torch.stack(torch.meshgrid(*centres, indexing='ij'), -1)
    positions = positions.unflatten(1, (across, side))
    positions = positions.unflatten(0, (across, side)).transpose(1, 2)
    return positions.flatten(0, 1).flatten(1, 2), extra
