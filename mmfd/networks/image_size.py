"""Which image sizes a network takes; the messages name the nearest one."""
from mmfd.errors import Refused


def check_multiple(img_size, unit, unit_name):
    """Refuse an `img_size` in pixels that `unit` does not divide.

    Args:
        unit_name (str): what the unit is, for the message.

    Raises:
        Refused: naming the nearest sizes.
    """
    if img_size % unit:
        lower = img_size // unit * unit
        nearest = [str(size) for size in (lower, lower + unit) if size]
        raise Refused(f'img_size={img_size} is not a multiple of {unit_name}: '
                      'set img_size, and the size of the crops if a config '
                      f'sets it, to {" or ".join(nearest)}')


def check_equal(images, img_size):
    """Refuse images (B, 3, H, W) that are not of side `img_size`.

    Raises:
        Refused: naming both sizes.
    """
    height, width = images.shape[-2:]
    if (height, width) != (img_size, img_size):
        raise Refused(
            f'images of {height} x {width} pixels for a backbone of '
            f'img_size={img_size}: set backbone.img_size or the size of the '
            'crops')


def check_patch_fits(images, patch):
    """Refuse images (B, 3, H, W) that are smaller than a patch (h, w).

    Raises:
        Refused: naming both sizes.
    """
    height, width = images.shape[-2:]
    if height < patch[0] or width < patch[1]:
        raise Refused(
            f'images of {height} x {width} pixels are smaller than the '
            f"patch of {patch[0]} x {patch[1]}: set the sizes of the "
            "pipeline's Resize and crop")
