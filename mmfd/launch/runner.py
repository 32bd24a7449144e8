"""From a config to a Runner."""
import logging
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine import registry
from mmengine.dist import barrier, get_rank, is_main_process
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch.utils import serialization

from mmfd import files
from mmfd.errors import Refused
from mmfd.fast import compile_blocks
from mmfd.launch import dataset_checks, processes
from mmfd.launch.config_options import (DOWNSTREAM, dicts, find_class,
                                        no_such_type)
from mmfd.launch.dry_run import NO_CHECKPOINT
from mmfd.launch.resume_checks import (check_not_classified, check_resumable,
                                       check_same_model, check_same_teacher,
                                       checkpoint_to_fit)
from mmfd.training import cached_teacher
from mmfd.training.loop import StopTraining
from mmfd.training.sharding import ShardedRunner
from mmfd.weights import checkpoints, host_reader


def prepare(cfg, train):
    """Build a Runner and everything it needs, or leave nothing behind.

    Args:
        cfg (Config): as `load_config` gives it.
        train (bool): to train, or to test `cfg.load_from`.

    Raises:
        Refused: for what a user can mend.
    """
    # A file that needs more than tensors is refused; the host on its own
    # would warn, and then run what the file says.
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    host_reader.install()
    if cfg.launcher != 'none':
        processes.join(cfg.launcher, **cfg.env_cfg.get('dist_cfg', {}))
        _wrap(cfg)
    if cfg.launcher == 'none' or not torch.cuda.is_available():
        _unsynchronise(cfg)
    if 'runner_type' in cfg:  # one that builds its model when it is run
        files.make_folder(cfg.work_dir)
        with _one_refusal():
            return registry.RUNNERS.build(cfg)
    # each process takes its shards out of a map of the file
    with serialization.config.patch('load.mmap', _sharded(cfg)):
        return _prepare(cfg, train)


def _prepare(cfg, train):
    loops = ('train', 'val') if train else ('test', )
    if train:
        cached_teacher.check_pipeline(cfg)
        _check_shards(cfg)
    whole = checkpoint_to_fit(cfg, train)
    resume = train and cfg.get('resume')
    if resume:
        cfg.load_from, cfg.resume = whole, bool(whole)
    for path in {whole, cfg.get('load_from')} - {None}:  # often the same
        checkpoint = checkpoints.load(path)
        checkpoints.state_dict_of(checkpoint, path)
        if path == whole:
            told = checkpoint.get('meta', {})
            if train:
                check_resumable(checkpoint, path)
                check_same_model(cfg.model, told, path)
    teacher = cfg.model.get('teacher')
    if teacher and teacher.checkpoint != checkpoints.RANDOM:
        # to say so before billions of weights are drawn
        checkpoints.files_of(teacher.checkpoint, teacher.get('source', ''))
    if not whole:
        for path in _pretrained(cfg.model):
            check_not_classified(
                cfg.model,
                checkpoints.load(path, source=cfg.get('source', '')), path)
    with _no_traces(cfg.work_dir):
        runner = _build(cfg, loops)
        if resume and not whole:
            print_log(f'{cfg.work_dir} {NO_CHECKPOINT}', 'current',
                      logging.WARNING)
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        if isinstance(model, BaseTTAModel):
            model = model.module
        for module in model.modules():
            _settle_pretrained(module, whole)
        if whole:
            if teacher and is_main_process():
                check_same_teacher(teacher, model.teacher, told, whole)
            checkpoints.load_into(model, whole)
        ours = cfg.get('compile') and cfg.get(
            'default_scope') not in DOWNSTREAM
        if ours and compile_blocks.compile_blocks(model, cfg.compile):
            runner.cfg.compile = False  # the host's, of the step as a whole
        loader = runner.train_dataloader if train else runner.test_dataloader
        dataset_checks.check(cfg.model, loader)
    return runner


def augment(cfg):
    """Test every image at several scales and flipped, as a config says.

    Raises:
        Refused: if it does not say how.
    """
    missing = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
    if missing:
        raise Refused(f'--tta: the config has no {" and no ".join(missing)}')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def dry_run(cfg):
    """Train ten iterations, say what they showed, and leave nothing behind.

    Raises:
        Refused: as `prepare`.
    """
    whole = checkpoint_to_fit(cfg, train=True)
    hook = dict(
        type='mmfd.DryRunHook',
        work_dir=cfg.work_dir,
        anew=bool(cfg.get('resume') and not whole))
    cfg.default_hooks.dry_run = hook
    cfg.visualizer = None
    cfg.resume = bool(whole)
    cfg.load_from = whole or cfg.get('load_from')
    if cfg.model.get('teacher'):
        cfg.model.teacher = cached_teacher.without_cache(cfg.model.teacher)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        try:
            prepare(cfg, train=True).train()
        except StopTraining:
            pass


def _wrap(cfg):
    """The host's wrapper takes a GPU for granted."""
    if not torch.cuda.is_available() and not _sharded(cfg):
        own = cfg.get('model_wrapper_cfg') or dict(broadcast_buffers=False)
        cfg.model_wrapper_cfg = dict(own, device_ids=None)


def _unsynchronise(cfg):
    """SyncBN takes several GPUs for granted."""
    for node in dicts(cfg.model):
        if node.get('type') == 'SyncBN':
            node.type = 'BN'


def _check_shards(cfg):
    """Refuse what needs the whole model in each process."""
    if _sharded(cfg) and cfg.get('compile'):
        raise Refused(
            f'compile={cfg.compile} needs whole weights, of which a process '
            'has a part under model_wrapper_cfg.type=mmfd.FullySharded: take '
            'one of them out of the config')
    teacher = cfg.model.get('teacher') or {}
    if _sharded(cfg) and teacher.get('type') == 'mmfd.CachedTeacher':
        raise Refused(
            'mmfd.CachedTeacher computes what it lacks in one process, and '
            'model_wrapper_cfg.type=mmfd.FullySharded needs all of them: set '
            'model.teacher.type=mmfd.Teacher, or leave out model_wrapper_cfg')
    kinds = [str(hook.type) for hook in cfg.get('custom_hooks', ())]
    if _sharded(cfg) and any(kind.endswith('EMAHook') for kind in kinds):
        raise Refused(
            'EMAHook averages whole weights, of which a process has a part '
            'under model_wrapper_cfg.type=mmfd.FullySharded: take one of them '
            'out of the config')


def _sharded(cfg):
    """Whether several processes share one copy of the weights."""
    wrapper = cfg.get('model_wrapper_cfg') or {}
    return cfg.launcher != 'none' and wrapper.get(
        'type') == 'mmfd.FullySharded'


def _build(cfg, loops):
    files.make_folder(cfg.work_dir)
    with _one_refusal():
        runner = (ShardedRunner if _sharded(cfg) else Runner).from_cfg(cfg)
        for loop in loops:  # the host would wait with their images until then
            if cfg.get(f'{loop}_dataloader'):
                with _listed(loop):
                    getattr(runner, f'{loop}_loop')
        if 'train' in loops:  # which the host would find out in training
            optimizer = cfg.optim_wrapper.get('optimizer', {}).get('type')
            if isinstance(optimizer, str) and not find_class(
                    optimizer, runner.default_scope.scope_name):
                raise Refused(no_such_type(optimizer))
            runner.optim_wrapper = runner.build_optim_wrapper(
                runner.optim_wrapper)
        return runner


@contextmanager
def _listed(loop):
    """A host that finds no images or annotations says where to look."""
    try:
        yield
    except Refused:
        raise
    except (ValueError, OSError) as error:
        raise Refused(
            f'the images of {loop}_dataloader cannot be listed '
            f'({type(error).__name__}: {error}): check --data-root, and '
            'data_prefix, ann_file and metainfo of its dataset') from error


@contextmanager
def _one_refusal():
    """The many ways in which the host refuses a config are one."""
    try:
        yield
    except (KeyError, TypeError, AssertionError, AttributeError,
            RuntimeError) as error:
        name = re.search(r'([\w.]+) is not in the \S+ registry', str(error))
        what = no_such_type(
            name[1]) if name else f'{type(error).__name__}: {error}'
        raise Refused(f'this config cannot be built: {what}') from error


@contextmanager
def _no_traces(work_dir):
    """If the start fails, remove the log that it began, and nothing else."""
    there = os.listdir(work_dir) if os.path.isdir(work_dir) else ()
    new = [
        f for f in (Path(work_dir), *Path(work_dir).parents) if not f.exists()
    ]
    barrier()  # else a faster process makes it before this one looks
    try:
        yield
    except BaseException:
        if get_rank() == 0 and os.path.isdir(work_dir):
            for name in set(os.listdir(work_dir)) - set(there):
                if re.fullmatch(r'\d{8}_\d{6}', name):
                    shutil.rmtree(Path(work_dir, name), ignore_errors=True)
                elif name.endswith('.py'):  # the resolved config
                    Path(work_dir, name).unlink()
            for folder in new:
                if folder.exists() and not os.listdir(folder):
                    folder.rmdir()
        raise


def _pretrained(node):
    """Every file that an `init_cfg` in a config names; the host fetches."""
    for init in dicts(node):
        if init.get(
                'type') == 'Pretrained' and '://' not in init['checkpoint']:
            yield init['checkpoint']


def _settle_pretrained(module, whole):
    """The host loads what fits and warns of the rest; refuse instead."""
    init = getattr(module, 'init_cfg', None)
    library = type(module).__module__.partition('.')[0]
    if isinstance(init, dict) and init.get('type') == 'Pretrained':
        if library not in ('mmfd', 'mmpretrain'):
            return
        if whole:  # brings all weights itself
            module.init_cfg = None
        else:
            prefix = init.pop('prefix', None)
            left_out = checkpoints.load_into(module, init['checkpoint'], prefix
                                             or '')
            print_log(
                f'{type(module).__name__} starts from {init["checkpoint"]}' +
                (f', without its {" and ".join(left_out)}'
                 if left_out else ''), 'current')
            if prefix:  # the host takes an empty one for a name
                init['prefix'] = prefix
