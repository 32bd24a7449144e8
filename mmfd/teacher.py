"""The teacher: a frozen backbone that eats pixels. Never trained or saved."""
from functools import partial

import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process
from torch import nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call

from mmfd import attention, checkpoints
from mmfd.registry import MODELS


@MODELS.register_module()
class Teacher(nn.Module):
    """Freeze `backbone` and let it see pixels in its own normalisation.

    The backbone is hidden from PyTorch's bookkeeping on purpose. It is in no
    `parameters()`, so in no optimizer, gradient bucket or EMA; in no
    `state_dict()`, so in no checkpoint; and `train()` does not reach it, so
    it stays in eval mode, but for the noise of `drop_path_rate` where that is
    asked for. Moves to a device or dtype do reach it.

    Args:
        checkpoint (str): file of the backbone's weights in the host's names,
            as `tools/convert.py` writes it, matched strictly. `'random'`
            trains against random weights, for tests and benchmarks.
        normalize (dict): config of `mmfd.Normalize`, the statistics that the
            teacher was trained with.
        backbone (dict): any registered backbone that returns tokens, with
            its own final norm.
        neck (dict): what makes the target of the tokens: `WhiteningNeck`.
        img_size (int): side in pixels that the teacher was trained at;
            inputs of another size are resized to it. None keeps the input's.
        source (str): where the weights come from and how they get into
            `checkpoint`; told to who has not got them.
    """

    def __init__(self,
                 checkpoint,
                 normalize,
                 backbone,
                 neck,
                 img_size=None,
                 source='',
                 drop_path_rate=0.):
        super().__init__()
        size, patch = backbone.get('img_size'), backbone.get('patch_size')
        if size and patch and size % patch:
            raise ValueError(
                f'teacher.backbone.img_size={size} is not a multiple of its '
                f'patch_size={patch}')
        self.img_size = img_size
        self.normalize = MODELS.build(normalize)
        if drop_path_rate:
            backbone = dict(backbone, drop_path_rate=drop_path_rate)
        backbone = MODELS.build(backbone)
        self.fingerprint = checkpoints.RANDOM
        if checkpoint != checkpoints.RANDOM:
            checkpoints.load_into(
                backbone, checkpoint, source=source, exact=True)
            if is_main_process():  # which writes it into checkpoints
                self.fingerprint = checkpoints.fingerprint(
                    dict(
                        backbone.state_dict(),
                        mean=self.normalize.mean,
                        std=self.normalize.std))
        backbone.eval()
        backbone.requires_grad_(False)
        for module in backbone.modules():
            if type(module).__name__ == 'WindowMSA':  # not fused
                module.forward = partial(attention.attend_windows, module)
        self._hidden = (backbone, )  # a tuple, so not a submodule
        self._cast = {}  # dtype -> the backbone's weights in it
        self._noise = tuple(
            module for module in backbone.modules()
            if drop_path_rate and type(module).__name__ == 'DropPath')
        self.neck = MODELS.build(neck)

    @property
    def backbone(self):
        return self._hidden[0]

    def _apply(self, fn, recurse=True):
        self.backbone._apply(fn, recurse)
        self._cast.clear()
        return super()._apply(fn, recurse)

    def train(self, mode=True):
        super().train(mode)
        for module in self._noise:
            module.train(mode)
        return self

    def __deepcopy__(self, memo):
        return self  # a copy of what never changes is itself

    @torch.no_grad()
    def forward(self, pixels):
        """Pixels (B, 3, H, W) RGB 0-255 to the target (B, L, C)."""
        if self.img_size and pixels.shape[-2:] != (self.img_size, ) * 2:
            pixels = F.interpolate(
                pixels, (self.img_size, ) * 2, mode='bilinear', antialias=True)
        weights = self.weights(pixels.device.type)
        return self.neck(
            functional_call(self.backbone, weights,
                            (self.normalize(pixels), )))

    def weights(self, device):
        """Those that autocast would cast in every step, cast in the first.

        It remembers casts of what is trained, and only for a step. On a GPU
        they take less time than the copy is worth in memory, and shards come
        in the dtype of their own policy.
        """
        if device != 'cpu' or not torch.is_autocast_enabled(device):
            return {}
        dtype = torch.get_autocast_dtype(device)
        if dtype not in self._cast:
            self._cast[dtype] = {
                f'{prefix}.{name}': param.to(dtype)
                for prefix, module in self.backbone.named_modules()
                if isinstance(module, (nn.Linear, nn.Conv2d))
                for name, param in module.named_parameters(recurse=False)
                if not isinstance(param, DTensor)
            }
        return self._cast[dtype]
