"""Pictures of predictions."""
import numpy as np
import pytest
import torch
from helpers.commands import command, refused
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

from mmfd.launch.config_options import read_config
from mmfd.launch.predictions import Predictor

CONFIG = 'configs/demo/simclr_fd_shapes.py'


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """A checkpoint of the demo's classifier that always says `heart`."""
    cfg = Config.fromfile(CONFIG)
    model = MODELS.build(cfg.model)
    state = model.state_dict()
    state['head.fc.weight'].zero_()
    state['head.fc.bias'][:] = torch.arange(10) == 5
    path = tmp_path_factory.mktemp('model') / 'epoch_3.pth'
    classes = ['arrow', 'crescent', 'cross', 'disc', 'frame', 'heart']
    torch.save(
        dict(
            meta=dict(dataset_meta=dict(classes=classes + ['?'] * 4)),
            state_dict=state), path)
    return path


@pytest.fixture
def images(tmp_path):
    """Two images at different depths, and one that is none."""
    folder = tmp_path / 'images'
    (folder / 'deeper').mkdir(parents=True)
    for name in 'a.jpg', 'deeper/b.png':
        Image.new('RGB', (120, 80), 'white').save(folder / name)
    (folder / 'c.jpg').write_text('no image')
    return folder


def test_folder_gives_a_picture_for_each_image_and_names_the_broken_ones(
        classifier, images, tmp_path):
    out = tmp_path / 'out'
    output = command('draw', CONFIG, classifier, images, '--out', out)
    assert f'{out}: 2 pictures' in output
    assert f'left out: {images}/c.jpg' in output
    files = sorted(x for x in out.rglob('*') if x.is_file())
    assert files == [out / 'a.png', out / 'deeper/b.png']
    picture = np.array(Image.open(files[0]))
    assert picture.shape[:2] == (80, 120)
    assert (picture[:, :, :3] != 255).any()  # a text stands on the white


def test_prediction_is_that_of_the_checkpoint(classifier, images):
    predictor = Predictor(read_config(CONFIG), str(classifier))
    pixels, prediction = predictor(images / 'a.jpg')
    assert pixels.shape == (80, 120, 3) and (pixels == 255).all()
    classes = predictor.visualizer.dataset_meta['classes']
    assert classes[prediction.pred_label] == 'heart'
    expected = torch.softmax((torch.arange(10) == 5).float(), 0)
    torch.testing.assert_close(prediction.pred_score, expected)


@pytest.mark.parametrize('config, images, message', [
    ('configs/demo/simclr_fd.py', 'x.jpg', 'predicts no classes'),
    (CONFIG, 'nowhere', 'no file and no folder nowhere'),
])
def test_what_cannot_be_predicted_is_one_message(classifier, config, images,
                                                 message, tmp_path):
    (tmp_path / 'x.jpg').touch()
    output = refused(
        'draw', config, classifier, images, '--out', 'out', cwd=tmp_path)
    assert message in output
    assert not (tmp_path / 'out').exists()


def test_file_without_names_of_classes_is_refused(tmp_path, images):
    output = refused('draw', CONFIG, 'configs/demo/student.pth', images,
                     '--out', tmp_path / 'out')
    assert 'does not fit' in output
