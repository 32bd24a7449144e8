"""Objects365, then COCO, then a test in larger windows at several scales."""
import re

import pytest
import torch
from helpers.commands import command
from helpers.swinv2_pipeline import write_configs, write_student

from mmfd.launch.config_options import read_config
from mmfd.launch.runner import prepare
from mmfd.weights import checkpoints


@pytest.mark.full
def test_detector_goes_from_other_classes_to_masks_and_larger_windows(
        tmp_path, shapes_root):
    write_student(tmp_path)
    given, names = write_configs(tmp_path, shapes_root / 'coco',
                                 'annotations/instances_val2017.json',
                                 'val2017/', 64, 1, 8)
    command('train', tmp_path / 'objects.py', '--work-dir',
            tmp_path / 'objects')
    before = checkpoints.load(tmp_path / 'objects/epoch_1.pth')['state_dict']

    cfg = read_config(tmp_path / 'coco.py')
    cfg.work_dir, cfg.launcher = str(tmp_path / 'started'), 'none'
    runner = prepare(cfg, train=True)
    runner.load_or_resume()
    after = runner.model.state_dict()
    places = [len(given) - 1, *range(len(given) - 2, 0, -1)]
    assert [given[i].lower() for i in places[1:]] == names[1:]
    for name, value in before.items():
        if 'fc_cls' in name:
            value = value[[*places, len(given)]]
        assert torch.equal(after[name], value), name
    assert {name.split('.')[1]
            for name in after.keys() - before.keys()} == {'mask_head'}
    backbone = runner.model.backbone.eval()
    windows = [s.blocks[0].attn.window_size for s in backbone.stages]
    assert windows == [12, 12, 6, 3]

    log = command('train', tmp_path / 'coco.py', '--work-dir',
                  tmp_path / 'coco')
    assert (f'{len(names)} of its {len(given)} classes are carried over by '
            'name; dropped: 1 (Street Lights)') in log
    for options in [], ['--tta']:
        log = command('test', tmp_path / 'coco.py',
                      tmp_path / 'coco/epoch_1.pth', '--work-dir',
                      tmp_path / 'tested', *options)
        for kind in 'bbox', 'segm':
            [ap] = re.findall(rf'test: .*coco/{kind}_mAP ([\d.]+)', log)
            assert 0 <= float(ap) <= 1
