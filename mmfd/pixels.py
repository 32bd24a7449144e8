"""What happens to images before a backbone: batches of pixels, statistics."""
import torch
from mmengine.model import BaseDataPreprocessor
from mmpretrain.models import ClsDataPreprocessor
from torch import nn

from mmfd.errors import Refused, described
from mmfd.registry import MODELS


@MODELS.register_module()
class PixelPreprocessor(BaseDataPreprocessor):
    """Stack images into pixels, RGB 0-255, without normalising them.

    Teacher and student each normalise pixels with statistics of their own, so
    neither can be given the other's. Images go to the device as uint8.

    Args:
        bgr_to_rgb (bool): swap the channels, because the pipeline loads images
            as BGR, as OpenMMLab's do.
    """

    def __init__(self, bgr_to_rgb=True):
        super().__init__(non_blocking=True)
        self.bgr_to_rgb = bgr_to_rgb

    def forward(self, data, training=False):
        """Stack a batch and move it to the device.

        Args:
            data (dict): `inputs`, images (3, H, W) of one size as a list or
                stacked, and perhaps `data_samples`.

        Returns:
            dict: `inputs`, pixels (B, 3, H, W) float RGB 0-255, and
            `data_samples` as they came, or None: no network reads them.

        Raises:
            Refused: if the images have different sizes.
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
            inputs=pixels.float(), data_samples=data.get('data_samples'))


def check_pixels(inputs):
    """Refuse what is no pixels (B, 3, H, W), as another preprocessor gives.

    Raises:
        Refused: with what came.
    """
    if not isinstance(inputs, torch.Tensor):
        raise Refused(f'model.data_preprocessor gives {described(inputs)}, '
                      'and pixels (B, 3, H, W) are expected: set '
                      'model.data_preprocessor.type=mmfd.PixelPreprocessor')


@MODELS.register_module()
class Normalize(nn.Module):
    """Subtract `mean` and divide by `std`: RGB, on the 0-255 scale.

    The statistics are part of the config and not of the checkpoint.

    Raises:
        Refused: if they are not three numbers each, or a deviation is 0.
    """

    def __init__(self, mean, std):
        super().__init__()
        three = all(
            isinstance(part, (list, tuple)) and len(part) == 3
            for part in (mean, std))
        if not three or min(std) <= 0:
            raise Refused(
                f'mean={mean} and std={std}: 3 numbers each are expected, of '
                'RGB from 0 to 255, and a standard deviation above 0')
        self.register_buffer(
            'mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            'std', torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels):
        """Pixels (B, 3, H, W) RGB 0-255 -> the same shape, normalised."""
        return (pixels - self.mean) / self.std


@MODELS.register_module()
class OfficialEvalPreprocessor(ClsDataPreprocessor):
    """Evaluate with CLIP's statistics, whatever the network was trained with.

    The official fine-tuning and linear probe do so for every network
    (`data_finetune.py`, `data_linear.py`), so the published accuracies were
    probably measured so. Use it to compare with them. Training uses `mean` and
    `std`.
    """

    def __init__(self, mean, std, **kwargs):
        super().__init__(mean, std, **kwargs)
        self.clip = Normalize(
            mean=[122.7709383, 116.7460125, 104.09373615],
            std=[68.5005327, 66.6321375, 70.32316305])

    def forward(self, data, training=False):
        """As the host's; in evaluation `inputs` are normalised as CLIP's."""
        batch = super().forward(data, training)
        if not training:
            pixels = batch['inputs'] * self.std + self.mean
            batch['inputs'] = self.clip(pixels)
        return batch
