"""From images to pixels to statistics: what happens before any backbone."""
import torch
from mmengine.model import BaseDataPreprocessor
from mmpretrain.models import ClsDataPreprocessor
from torch import nn

from mmfd.errors import Refused
from mmfd.registry import MODELS


@MODELS.register_module()
class PixelPreprocessor(BaseDataPreprocessor):
    """Hand on RGB pixels in 0-255; nothing is normalised here.

    Images travel to the device as uint8. Teacher and student each apply
    statistics of their own, so none can be given the other's.

    Args:
        bgr_to_rgb (bool): whether the pipeline loads images as BGR, as
            OpenMMLab's do.
    """

    def __init__(self, bgr_to_rgb=True):
        super().__init__(non_blocking=True)
        self.bgr_to_rgb = bgr_to_rgb

    def forward(self, data, training=False):
        """Stack a batch.

        Args:
            data (dict): `inputs`, images (3, H, W) of one size in a list or
                stacked, and maybe `data_samples`.

        Returns:
            dict: `inputs`, pixels (B, 3, H, W) float RGB 0-255, and
            `data_samples` as they came, or None.
        """
        images = data['inputs']
        if not isinstance(images, torch.Tensor):
            sizes = {tuple(image.shape[-2:]) for image in images}
            if len(sizes) > 1:
                raise Refused(
                    f'the images of a batch have {len(sizes)} different '
                    f'sizes, e.g. {sorted(sizes)[:2]}, but distillation needs '
                    'one: end the pipeline with a crop or resize to a fixed '
                    'size')
            images = torch.stack(images)
        pixels = self.cast_data(images)
        if pixels.ndim == 5:  # (views, B, 3, H, W), of mmpretrain.MultiView
            pixels = pixels.flatten(0, 1)
        if self.bgr_to_rgb:
            pixels = pixels.flip(1)
        return dict(
            inputs=pixels.float(),
            data_samples=self.cast_data(data.get('data_samples')))


@MODELS.register_module()
class Normalize(nn.Module):
    """Subtract `mean` and divide by `std`: RGB, on the 0-255 scale.

    The statistics belong to the config, not to the checkpoint.
    """

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer(
            'mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            'std', torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels):
        """(B, 3, H, W) RGB 0-255 to the same shape, normalised."""
        return (pixels - self.mean) / self.std


@MODELS.register_module()
class OfficialEvalPreprocessor(ClsDataPreprocessor):
    """Evaluate in CLIP's statistics whatever was trained in others.

    The official fine-tuning and linear probe do so for every network
    (`data_finetune.py`, `data_linear.py`), so the published accuracies
    presumably hold it. For comparing with them; training is not touched.
    """

    def __init__(self, mean, std, **kwargs):
        super().__init__(mean, std, **kwargs)
        self.clip = Normalize(
            mean=[122.7709383, 116.7460125, 104.09373615],
            std=[68.5005327, 66.6321375, 70.32316305])

    def forward(self, data, training=False):
        """As the host's; inputs (B, 3, H, W)."""
        batch = super().forward(data, training)
        if not training:
            pixels = batch['inputs'] * self.std + self.mean
            batch['inputs'] = self.clip(pixels)
        return batch
