"""The images at hand are found where they are, and are enough."""
import os

import pytest
from PIL import Image

from mmfd.errors import Refused
from mmfd.recipes import images


def test_paths_become_absolute_and_addresses_stay():
    found = images.absolute(['cifar', 's3://bucket/cc12m'])
    assert found == [os.path.abspath('cifar'), 's3://bucket/cc12m']
    assert images.absolute('s3://bucket/a') == ['s3://bucket/a']


def test_one_image_is_too_few_to_hold_one_out(tmp_path):
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    with pytest.raises(Refused, match='of 1 images .* two or more are needed'):
        images.look_at([str(tmp_path)])
