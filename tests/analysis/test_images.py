"""Images that are analyzed are those that can be read."""
import pytest

from mmfd.analysis.images import ImageSample
from mmfd.data.transforms import LoadImage
from mmfd.errors import Refused


def test_unreadable_images_alone_are_one_message(tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    images = ImageSample(str(tmp_path), 5)
    with pytest.raises(Refused, match='none of 1 images .* can be read'):
        [*images.batches([LoadImage()], 2)]
