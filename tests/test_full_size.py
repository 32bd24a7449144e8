"""The distillation configs at full size: some real iterations on a CPU."""
import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from test_checkpoints import write_clip
from test_tools import command

from mmfd import checkpoints


def write_dino(path):
    torch.save(
        timm.create_model('vit_base_patch16_224.dino').state_dict(), path)


def write_clip_b(path):
    write_clip(path, width=768, layers=12, patch=16, img_size=224)


def write_clip_l(path):
    write_clip(path, width=1024, layers=24, patch=14, img_size=224)


@pytest.mark.full
@pytest.mark.parametrize('name, kind, write', [
    ('clip_vitb', 'openai-clip', write_clip_b),
    ('clip_vitl', 'openai-clip', write_clip_l),
    ('dino_vitb', 'dino', write_dino),
])
def test_full_size_config_trains_resumes_and_exports(tmp_path, shapes_root,
                                                     request, name, kind,
                                                     write):
    write(tmp_path / 'published.pt')
    teacher, run = tmp_path / 'teacher.pth', tmp_path / 'run'
    command('convert', kind, tmp_path / 'published.pt', teacher)
    images = request.config.getoption('--images') or shapes_root / 'imagenet'
    options = [
        '--work-dir', run, '--data-root', images, '--cfg-options',
        f'model.teacher.checkpoint={teacher}',
        'train_dataloader.dataset.indices=6', 'train_dataloader.batch_size=2',
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.logger.interval=1'
    ]
    config = f'configs/fd/{name}_fd.py'
    command('train', config, *options, 'train_cfg.max_epochs=1')
    log = command('train', config, '--resume', *options,
                  'train_cfg.max_epochs=2')
    assert 'resumed epoch: 1, iter: 3' in log
    command('export', run / 'epoch_2.pth', tmp_path / 'student.pth')
    exported = checkpoints.load(tmp_path / 'student.pth')['state_dict']
    student = Config.fromfile(config).model.backbone
    ours = MODELS.build(student)
    saved = checkpoints.load(run / 'epoch_2.pth')['state_dict']
    ours.load_state_dict({
        key.removeprefix('backbone.'): value
        for key, value in saved.items() if key.startswith('backbone.')
    })
    host = MODELS.build(dict(student, type='mmpretrain.BEiTViT'))
    host.load_state_dict(exported, strict=True)
    host.eval()
    pixels = torch.randn(2, 3, 224, 224)
    assert torch.equal(ours.eval()(pixels)[0], host(pixels)[0])
