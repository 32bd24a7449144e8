"""What files say of their origin, and what a run writes on."""
import re

import torch
from mmengine.config import Config

from mmfd import __version__
from mmfd.weights import checkpoints, provenance, weight_files


def test_file_that_says_nothing_is_known_by_its_sum(tmp_path):
    torch.save(dict(weight=torch.ones(1)), tmp_path / 'plain.pth')
    origin = provenance.of_file(tmp_path / 'plain.pth')
    assert origin == dict(
        source='plain.pth', sha256=weight_files.sha256(tmp_path / 'plain.pth'))


def test_run_tells_of_its_teacher_its_start_and_their_own(tmp_path):
    weights = dict(w=torch.ones(1))
    clip = dict(kind='openai-clip', source='ViT-B-16.pt', sha256='58')
    checkpoints.save(weights, tmp_path / 'clip.pth', clip)
    cfg = Config(
        dict(model=dict(teacher=dict(checkpoint=str(tmp_path / 'clip.pth')))),
        filename='configs/fd/clip_vitb_fd.py')
    origin = provenance.of_run(cfg)
    assert origin == dict(
        recipe='clip_vitb_fd',
        mmfd=__version__,
        **{
            'teacher.file': 'clip.pth',
            'teacher.kind': 'openai-clip',
            'teacher.source': 'ViT-B-16.pt',
            'teacher.sha256': '58'
        })
    # the next run starts from what the first has written
    checkpoints.save(weights, tmp_path / 'epoch_300.pth', origin)
    init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'epoch_300.pth'))
    cfg = Config(
        dict(model=dict(backbone=dict(init_cfg=init_cfg))),
        filename='configs/classification/clip_vitb_fd_in1k.py')
    origin = provenance.of_run(cfg)
    assert origin['recipe'] == 'clip_vitb_fd_in1k'
    assert origin['start.recipe'] == 'clip_vitb_fd'
    assert origin['start.teacher.sha256'] == '58'
    lines = provenance.describe(origin)
    assert 'start.teacher.source   ViT-B-16.pt' in lines
    assert 'start.teacher.licence  unknown' in lines


def test_random_teacher_is_called_so():
    cfg = Config(dict(model=dict(teacher=dict(checkpoint='random'))))
    origin = provenance.of_run(cfg)
    assert origin == {'mmfd': __version__, 'teacher.file': 'random'}
    assert re.search(r'recipe +unknown', provenance.describe(origin))


def test_file_says_nothing_of_its_origin_that_steers_a_screen():
    origin = provenance.of_meta({
        'source': 'a\x1b[2Jb',
        'licence': 'MIT',
        'url': 'x' * 10**6,
        'teacher.\x1b.file': 'x',
        3: 'y'
    })
    assert origin == dict(licence='MIT')


def test_size_of_images_is_read_or_unknown():
    size = provenance.img_size
    assert size(dict(img_size='[56, 28]')) == (56, 28)
    for text in ('', 'null', '56', '[56]', '[0, 56]', '["a", 1]', '[1e999, 1]',
                 '[' * 10_000):
        assert size(dict(img_size=text)) is None
    assert size({}) is None
