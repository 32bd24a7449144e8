"""ONNX Runtime computes what the student computes."""
import pytest
import torch
from helpers.commands import command, refused
from helpers.foreign import run_snippet
from helpers.models import build_random, save_trained, student, swin_student
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.weights import export_onnx

onnxruntime = pytest.importorskip(
    'onnxruntime', reason='pip install onnx onnxruntime onnxscript')
onnx = pytest.importorskip('onnx', reason='pip install onnx')
pytest.importorskip('onnxscript', reason='pip install onnxscript')


def features(path, images):
    session = onnxruntime.InferenceSession(str(path))
    out, = session.run(None, {'images': images.numpy()})
    return torch.from_numpy(out)


def compare(config, img_size, path, batches):
    ours = build_random(config)
    ours.eval()
    shape, _, difference = export_onnx.save(ours, img_size, path, {})
    assert difference < 1e-4
    for batch in batches:
        images = torch.randn(batch, 3, *img_size)
        with torch.no_grad():
            expected = ours(images)[-1]
        scale = expected.abs().max().item()
        torch.testing.assert_close(
            features(path, images), expected, rtol=0, atol=1e-4 * scale)
    return shape


def test_tokens_of_any_number_of_images_are_those_of_the_student(tmp_path):
    shape = compare(student(), (32, 32), tmp_path / 'vit.onnx', [1, 2, 5])
    assert shape == ('batch', 3, 32, 32)


OTHERS = {
    'bias per block':
    (student(use_rel_pos_bias=True,
             use_shared_rel_pos_bias=False), (32, 32), [1, 3]),
    'Swin V2, one image': (swin_student(), (64, 64), [1]),
    'convolutions': (dict(type='mmpretrain.ResNet',
                          depth=18), (32, 48), [1, 4]),
    'timm': (dict(
        type='mmfd.TimmNetwork',
        name='vit_tiny_patch16_224',
        img_size=32,
        model_args=dict(embed_dim=48, depth=2, num_heads=2)), (32, 32), [1,
                                                                         3]),
    'torchvision': (dict(type='mmfd.TorchvisionNetwork',
                         name='resnet18'), (32, 32), [1, 3]),
    'Hugging Face': (dict(
        type='mmfd.HuggingFaceNetwork',
        config=dict(
            model_type='dinov2',
            hidden_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            patch_size=8,
            image_size=32)), (32, 32), [1, 3]),
}


@pytest.mark.full
@pytest.mark.parametrize('name', OTHERS)
def test_students_of_all_kinds_have_their_features(tmp_path, name):
    config, img_size, batches = OTHERS[name]
    compare(config, img_size, tmp_path / 'student.onnx', batches)


@pytest.mark.full
def test_command_writes_a_graph_with_its_origin_and_statistics(tmp_path):
    ours = build_random(student())
    file = save_trained(
        ours, tmp_path / 'epoch_1.pth', student(), recipe='clip_vitb_fd')
    printed = command('export', file, tmp_path / 'vit.onnx', '--to', 'onnx')
    assert "images ('batch', 3, 32, 32)" in printed
    tokens = run_snippet(printed.split('load it by\n')[1])
    with torch.no_grad():
        expected = ours(torch.zeros(1, 3, 32, 32))[-1]
    assert (torch.from_numpy(tokens) - expected).abs().max() < 1e-4
    meta = onnx.load(tmp_path / 'vit.onnx').metadata_props
    assert {
        'recipe': 'clip_vitb_fd'
    }.items() <= {
        entry.key: entry.value
        for entry in meta
    }.items()


def test_network_of_any_size_is_exported_at_that_of_its_distillation(tmp_path):
    named = dict(
        type='mmfd.TorchvisionNetwork', name='resnet18', img_size=[64, 96])
    file = save_trained(MODELS.build(named), tmp_path / 'epoch_1.pth', named)
    printed = command('export', file, tmp_path / 'r.onnx', '--to', 'onnx')
    assert 'zeros((1, 3, 64, 96)' in printed


@pytest.mark.full
def test_other_features_are_refused_and_nothing_is_written(
        tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, 'TOLERANCE', -1.)
    with pytest.raises(Refused, match='other features than PyTorch'):
        export_onnx.save(
            MODELS.build(student()), (32, 32), tmp_path / 'vit.onnx', {})
    assert [*tmp_path.iterdir()] == []


def test_what_no_graph_can_do_is_refused(tmp_path):
    grey = MODELS.build(dict(type='mmpretrain.LeNet5'))
    with pytest.raises(Refused, match='cannot export LeNet5 to ONNX: .*1 ch'):
        export_onnx.save(grey, (32, 32), tmp_path / 'lenet.onnx', {})
    assert [*tmp_path.iterdir()] == []


def test_what_is_no_size_or_no_onnx_is_refused(tmp_path):
    file = save_trained(build_random(student()), tmp_path / 'epoch_1.pth')
    assert '.onnx' in refused('export', file, tmp_path / 'x.pth', '--to',
                              'onnx')
    assert '--img-size is for --to onnx' in refused('export', file,
                                                    tmp_path / 'x.pth',
                                                    '--img-size', '32')
