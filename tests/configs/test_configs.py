"""Every config: it builds, says what it is, and starts from known weights."""
import re
from pathlib import Path

import pytest
import yaml
from helpers.configs import (TABLES, check_all, leaves, load, on_meta_device,
                             parameters)
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope

from mmfd.hosts import system
from mmfd.launch.runner import augment

TASKS = leaves('classification', 'ade20k', 'coco')
BATCHES = {  # images of an update
    r'.*_(ade20k|ade20k_linear|3x|htc)': 16,
    r'.*_linear': 16384,
    r'(esvit_swinb|swinv2g)\w*_in1k': 1024,
    r'clip_vitl336_fd_in22k_in1k': 512,
    r'.*': 2048,
}


def metafile(folder):
    """{name: model} of a folder's metafile."""
    text = Path('configs', folder, 'metafile.yml').read_text()
    return {model['Name']: model for model in yaml.safe_load(text)['Models']}


def batch(leaf):
    return next(images for pattern, images in BATCHES.items()
                if re.fullmatch(pattern,
                                Path(leaf).stem))


def docstring(leaf):
    return re.match(r'r?"""(.*?)"""', Path(leaf).read_text(), re.S)[1]


def test_every_small_config_builds(monkeypatch):
    monkeypatch.syspath_prepend('evidence')  # has the loss on captions

    def check(leaf):
        assert parameters(on_meta_device(load(leaf))) > 1e5

    check_all(check, leaves('demo', 'small'))


def test_every_config_builds_with_the_numbers_of_its_metafile():
    rows = {name: row for x in TABLES for name, row in metafile(x).items()}

    def check(leaf):
        row = rows.pop(Path(leaf).stem)
        assert row['Config'] == leaf
        cfg, facts = load(leaf), row['Metadata']
        if 'ade20k' in leaf:
            assert facts['Iterations'] == cfg.train_cfg.max_iters
        else:
            assert facts['Epochs'] == cfg.train_cfg.max_epochs
        assert facts['Batch Size'] == batch(leaf)
        model = on_meta_device(cfg)
        part = model.backbone if '/fd/' in leaf else model  # no projection
        assert facts['Parameters'] == parameters(part)

    check_all(check, leaves(*TABLES))
    assert not rows, 'rows without a config'


def test_every_dense_config_can_be_tested_at_several_scales():
    """Of a detector, boxes and masks; all at the sizes of the config."""

    def check(leaf):
        cfg = load(leaf)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            model = MODELS.build(
                dict(cfg.tta_model, module=on_meta_device(load(leaf))))
            augment(cfg)
            [views] = (
                TRANSFORMS.build(step)
                for step in cfg.test_dataloader.dataset.pipeline
                if step.type == 'TestTimeAug')
        assert len(views.subroutines) >= 6
        assert type(model).__name__ == ('InstanceTTAModel'
                                        if 'coco' in leaf else 'SegTTAModel')

    check_all(check, leaves('ade20k', 'coco'))


def test_batch_of_the_paper_is_made_of_whole_gpus():

    def check(leaf):
        images = load(leaf).train_dataloader.batch_size
        gpus, rest = divmod(batch(leaf), images)
        assert gpus in (8, 16, 32) and rest == 0
        stated = re.search(r'(\d+)\s+GPUs\s+x\s+(\d+)\s+images',
                           docstring(leaf))
        assert not stated or (int(stated[1]), int(stated[2])) == (gpus, images)

    check_all(check, leaves(*TABLES))


def test_docstring_has_the_command_that_runs_the_config():
    assert not [
        leaf
        for leaf in leaves(*TABLES, 'fd/ablations', 'demo', 'small') if leaf
        not in docstring(leaf) and 'make demo-teacher' not in docstring(leaf)
    ]


def test_docstring_has_the_cost_of_the_run():
    assert not [
        leaf for leaf in leaves(*TABLES, 'fd/ablations')
        if not re.search(r'\d\s(epochs|iterations)', docstring(leaf))
        or not re.search(r'batch\s(of\s)?\d', docstring(leaf))
    ]


def test_config_fits_on_one_screen():
    assert not [
        leaf for leaf in leaves(*TABLES, 'fd/ablations')
        if len(Path(leaf).read_text().splitlines()) > 40
    ]


def test_statistics_of_images_are_written_in_one_file():
    files = {
        str(path)
        for path in Path('configs').rglob('*.py') if re.search(
            r'123\.675|122\.77|58\.395|68\.5|127\.5', path.read_text())
    }
    assert files == {'configs/_base_/statistics.py'}


def test_distillation_has_no_random_teacher_unless_asked():

    def check(leaf):
        teacher = load(leaf).model.teacher
        assert teacher.checkpoint.endswith('.pth') and teacher.source

    check_all(check, leaves('fd', 'fd/ablations'))


def test_every_task_starts_from_weights_it_can_name():
    """A student from a run whose config exists, a teacher from its file."""

    def check(leaf):
        cfg = load(leaf)
        init = cfg.model.backbone.init_cfg
        assert init.type == 'Pretrained'
        if '_fd_' not in leaf:
            assert init.checkpoint == cfg.teacher.checkpoint
            assert 'tools/convert.py' in cfg.source and 'prefix' not in init
            return
        run, epoch = re.fullmatch(r'work_dirs/(\w+)/epoch_(\d+)\.pth',
                                  init.checkpoint).groups()
        [config] = Path('configs').glob(f'*/{run}.py')
        assert load(config).train_cfg.max_epochs == int(epoch)
        assert str(config) in cfg.source
        assert init.prefix == 'backbone.'

    check_all(check, TASKS)


def test_downstream_of_a_metafile_is_all_that_starts_from_it():
    starts = {}
    for leaf in TASKS:
        run = re.match(r'work_dirs/(\w+)/',
                       load(leaf).model.backbone.init_cfg.checkpoint)
        if run:
            starts.setdefault(run[1], set()).add(Path(leaf).stem)
    listed = {
        name: set(model['Downstream'])
        for folder in TABLES
        for name, model in metafile(folder).items() if 'Downstream' in model
    }
    assert listed == starts


@pytest.mark.parametrize('cores, processes, workers', [(1, 1, 1), (2, 1, 2),
                                                       (64, 1, 16), (64, 8, 8),
                                                       (4, 8, 1)])
def test_workers_are_the_cores_of_a_process_and_sixteen_at_most(
        monkeypatch, cores, processes, workers):
    monkeypatch.setattr(system, 'available_cores', lambda: cores)
    monkeypatch.setenv('LOCAL_WORLD_SIZE', str(processes))
    for leaf in 'fd/clip_vitb_fd', 'classification/clip_vitb_linear':
        cfg = Config.fromfile(f'configs/{leaf}.py')
        assert cfg.train_dataloader.num_workers == workers
        assert cfg.train_dataloader.persistent_workers
