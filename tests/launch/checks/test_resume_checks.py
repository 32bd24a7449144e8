"""A run goes on from a checkpoint of its own, and from no other."""
import os
import re

import pytest
import torch
from helpers.commands import command, refused
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmfd.errors import Refused
from mmfd.launch.checks.resume_checks import (check_files, check_resumable,
                                              check_same_model, go_on,
                                              set_start)
from mmfd.weights import checkpoints


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_checkpoint_of_another_model_is_not_resumed_or_tested(
        project, unchanged, tool):
    other = project / 'other.pth'
    torch.save(
        dict(
            state_dict={'backbone.cls_token': torch.zeros(1, 1, 48)},
            optimizer={},
            message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
            meta=dict(epoch=1, iter=1)), other)
    arguments = {
        'train': [project / 'fd.py', '--resume', other],
        'test': [project / 'fd.py', other]
    }[tool]
    message = refused(tool, *arguments, '--work-dir', project / 'run')
    assert 'lacks backbone.' in message
    assert unchanged('other.pth')


def test_checkpoint_of_another_run_is_not_resumed(project):
    """Same shapes, other statistics: a DINO run for a CLIP config."""
    run = project / 'run'
    command('train', project / 'fd.py', '--work-dir', run)
    written = set(os.listdir(run))
    resume = [
        'train', project / 'fd.py', '--work-dir', run, '--resume', '--dry-run',
        '--cfg-options', 'train_cfg.max_epochs=2'
    ]
    message = refused(*resume, 'model.teacher.normalize.std=[58.4,57.1,57.4]')
    assert re.search(
        r'epoch_1.pth is of another run: model.teacher.normalize.std was '
        r'\[68.5.*\], is \[58.4, 57.1, 57.4\]. .* without --resume', message)
    message = refused(*resume, 'model.teacher.checkpoint=random')
    assert ("model.teacher.checkpoint was '" in message
            and "clip.pth', is 'random'" in message)
    (project / 'moved').mkdir()
    (project / 'clip.pth').rename(project / 'moved/clip.pth')
    log = command(*resume,
                  f'model.teacher.checkpoint={project}/moved/clip.pth')
    assert '10 iterations of 30 done' in log and 'in iteration 25' in log
    assert set(os.listdir(run)) == written


@pytest.mark.parametrize('meta', [None, [], dict(epoch=1), dict(iter=1)])
def test_checkpoint_that_does_not_say_where_it_was_is_not_resumed(meta):
    with pytest.raises(Refused, match='a.pth does not say at which epoch'):
        check_resumable(dict(meta=meta, optimizer={}), 'a.pth')


def test_checkpoint_without_an_optimizer_is_not_resumed():
    with pytest.raises(Refused, match='a.pth holds no state of an optimizer'):
        check_resumable(dict(meta=dict(epoch=1, iter=2)), 'a.pth')


@pytest.mark.parametrize('model', ['{', 5, '[1]', '[' * 9999])
def test_model_that_cannot_be_read_is_refused(model):
    with pytest.raises(Refused, match='a.pth carries no readable config'):
        check_same_model(dict(type='x'), dict(model=model), 'a.pth')


@pytest.mark.parametrize('meta', [[], 'text', None, dict(model=5)])
def test_checkpoint_to_test_may_say_anything_beside_its_weights(
        tmp_path, meta):
    file = tmp_path / 'a.pth'
    torch.save(dict(meta=meta, state_dict=dict(w=torch.ones(2))), file)
    cfg = Config(dict(model=dict(type='x'), load_from=str(file)))
    path, read = check_files(cfg, train=False)
    assert path == str(file) and isinstance(read, dict)


def test_weights_to_begin_with_are_named_in_every_init_cfg(tmp_path):
    checkpoints.save(dict(w=torch.ones(2)), tmp_path / 'a.pth', {})
    cfg = Config(dict(model=dict(backbone=dict(init_cfg=dict()))))
    init = cfg.model.backbone.init_cfg
    init.update(type='Pretrained', checkpoint=f'{tmp_path}/a.pth')
    assert check_files(cfg, train=True) == (None, {})
    init.checkpoint = f'{tmp_path}/b.pth'
    with pytest.raises(Refused, match='no weights file .*b.pth'):
        check_files(cfg, train=True)
    for missing in None, 5:
        init.checkpoint = missing
        with pytest.raises(Refused, match=f'checkpoint={missing}: set check'):
            check_files(cfg, train=True)


def test_folder_is_answered_with_how_its_last_checkpoint_is_found(tmp_path):
    cfg = Config(dict(work_dir='x', resume=True, load_from=str(tmp_path)))
    with pytest.raises(
            Refused, match=f'--work-dir {tmp_path} --resume takes the last'):
        check_files(cfg, train=True)


@pytest.mark.parametrize('named', [True, False])
@pytest.mark.parametrize('begun', [True, False])
def test_what_a_config_loads_is_read_where_there_is_nothing_to_go_on_from(
        tmp_path, named, begun, caplog):
    last, start = str(tmp_path / 'iter_3.pth'), 'start.pth'
    if begun:
        torch.save(dict(meta=dict(iter=3)), last)
    cfg = Config(dict(work_dir=str(tmp_path), load_from=start, resume=False))
    go_on(cfg, last if named else 'auto')
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        path = set_start(cfg, train=True)
    finally:
        logger.removeHandler(caplog.handler)
    found = named or begun  # a missing file is refused when it is read
    assert path == (last if found else None)
    assert (cfg.load_from, cfg.resume) == (path or start, found)
    assert 'begin_from' not in cfg
    assert caplog.messages[-1] == 'load_from=start.pth is ' + (
        f'not read, since the run goes on from {last}'
        if found else 'where the run begins')
