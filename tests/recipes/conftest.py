"""A distillation and a fine-tuning from it, by names: seconds each."""
import threading

import pytest
import timm
import torch
from safetensors.torch import save_file

import mmfd
from mmfd.hosts import mmcv_ops

mmcv_ops.install()  # before models are imported


@pytest.fixture(scope='session')
def teacher(tmp_path_factory):
    """A small ViT of timm, as timm would publish it."""
    file = tmp_path_factory.mktemp('teacher') / 'vit.safetensors'
    torch.manual_seed(0)
    save_file(timm.create_model('test_vit').state_dict(), file)
    return f'timm:test_vit={file}'


@pytest.fixture(scope='session')
def student(teacher, shapes_root, tmp_path_factory):
    """The `Student` that `mmfd.distill` returned, and its folder."""
    out = tmp_path_factory.mktemp('runs') / 'fd'
    found = mmfd.distill(
        data=shapes_root / 'imagenet',
        teacher=teacher,
        student='timm:test_resnet',
        out=out,
        epochs=2,
        img_size=64)
    return found, out


@pytest.fixture(scope='session')
def classifier(student, shapes_root):
    """The `Classifier` that `mmfd.finetune` returned in a thread; folder."""
    _, folder = student
    found, out = [], folder.parent / 'classifier'
    thread = threading.Thread(target=lambda: found.append(
        mmfd.finetune(folder, shapes_root / 'imagenet', out, epochs=1)))
    thread.start()
    thread.join()
    return found[0], out
