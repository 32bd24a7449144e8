"""From a config to a Runner that is ready to train or to test."""
import os
import sys
import tempfile
import time
from contextlib import nullcontext
from functools import partial

from mmengine.dist import is_main_process
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner
from torch.utils import serialization

from mmfd import files
from mmfd.errors import Refused
from mmfd.fast import compile_blocks, non_blocking
from mmfd.hosts import fp32_modules, log, openmmlab, system
from mmfd.launch import (parallel_config, processes, starting_weights, summary,
                         terminal)
from mmfd.launch.checks import (config_checks, dataset_checks, loader_checks,
                                resume_checks, schedule_checks,
                                schedule_course, student_checks, target_checks)
from mmfd.launch.checks.setting_takers import scope_of
from mmfd.launch.checks.type_names import find_class, no_such_type
from mmfd.launch.config_options import DOWNSTREAM
from mmfd.launch.dry_run import NO_CHECKPOINT
from mmfd.launch.failed_start import (OF_NUMBERS, build_errors_refused,
                                      data_errors_refused, traces_removed)
from mmfd.launch.parallel_config import is_sharded
from mmfd.networks.library_network import facts_of
from mmfd.registry import branches_of, with_teachers
from mmfd.training import cached_teacher, optimizer_schema, run_folder
from mmfd.training.loop import StopTraining
from mmfd.training.sharding import ShardedRunner
from mmfd.weights import strict_loading, weight_files
from mmfd.weights.mmengine_reader import load_for_mmengine


def prepare(cfg, train, verbose=True):
    """Build a Runner and everything it needs, or leave nothing behind.

    Args:
        cfg (Config): as `load_config` returns it; changed in place.
        train (bool): to train, or to test `cfg.load_from`.
        verbose (bool): print all that goes to the log file, or what is for
            users and a line of progress.

    Returns:
        Runner: its weights are loaded, its data and labels are checked.

    Raises:
        Refused: for what a user can mend.
    """
    _read_only_tensors()
    config_checks.check_sections(cfg, train)
    student_checks.check(cfg)
    config_checks.check_settings(cfg, train)
    if cfg.launcher != 'none':
        dist_cfg = (cfg.get('env_cfg') or {}).get('dist_cfg') or {}
        processes.join(cfg.launcher, **dist_cfg)
    parallel_config.adapt(cfg)
    loader_checks.check(cfg)
    if train:
        cached_teacher.check_pipeline(cfg)
        config_checks.check_sharding(cfg)
    resume = train and cfg.get('resume')
    folder = run_folder.checkpoint_folder(cfg)
    # each process takes its shards out of a map of the file
    with serialization.config.patch(
            'load.mmap', is_sharded(cfg)), (run_folder.reserved(folder)
                                            if train else nullcontext()):
        checkpoint, meta = resume_checks.check_files(cfg, train)
        with traces_removed(cfg.work_dir):
            loops = ('train', 'val') if train else ('test', )
            runner = _build(cfg, loops, verbose)
            model = _unwrapped(runner.model)
            target_checks.check(model)
            target_checks.check_losses(model)
            if resume and not checkpoint:
                log.warn(f'{cfg.work_dir} {NO_CHECKPOINT}')
            for part, facts in facts_of(model).items():
                log.info(f'{part or "backbone"}: {facts.describe()}')
            _load_weights(runner, checkpoint, meta)
            if resume and checkpoint and is_main_process():
                resume_checks.check_same_state(runner, checkpoint)
            _compile_blocks(runner)
            dataset_checks.check(
                cfg, {
                    loop: getattr(runner, f'{loop}_dataloader')
                    for loop in loops if cfg.get(f'{loop}_dataloader')
                })
    return runner


def train(cfg, verbose=True):
    """Train what a config describes.

    Args:
        cfg (Config): as `load_config` returns it; changed in place.
        verbose (bool): as of `prepare`.

    Returns:
        Runner: at the end of its training.

    Raises:
        Refused: as `prepare`, and where the work dir goes away or is full.
    """
    runner = prepare(cfg, True, verbose)
    folder = os.path.abspath(runner.work_dir)
    begun = time.monotonic()
    log.info(summary.beginning(runner))
    for handler in runner.logger.handlers:
        handler.handleError = partial(_end_if_full, handler.handleError)
    try:
        runner.train()
    except KeyboardInterrupt:
        log.info(summary.interrupted(runner))
        raise
    except OSError as error:
        if files.has_no_room(error):
            raise Refused(
                f'nothing more can be written ({error}), for example the log '
                f'in {runner.work_dir}: make room there. If it holds '
                'checkpoints, --resume goes on from the last one') from error
        path = os.path.abspath(str(error.filename or ''))
        if not path.startswith(folder + os.sep):
            raise
        raise Refused(
            f'{error.filename} cannot be written: {error.strerror}. The work '
            'dir was removed or made read-only during the run; if it holds '
            'checkpoints, --resume goes on from the last one') from error
    log.info(summary.ending(runner, time.monotonic() - begun))
    return runner


def _end_if_full(otherwise, record):
    """Raise the error of a log on a full disk; not of a console that is gone.

    Python would print a traceback for every line, and the run go on.

    Args:
        otherwise (callable): what a handler does about other errors.
        record (LogRecord): that was not written.
    """
    error = sys.exc_info()[1]
    if isinstance(error, OSError) and files.has_no_room(error):
        raise error
    if not system.leave_closed_console(error):
        otherwise(record)


def augment(cfg):
    """Test every image at several scales and flipped, as a config says.

    Args:
        cfg (Config): with `tta_model` and `tta_pipeline`; changed in place.

    Raises:
        Refused: if it has no such sections.
    """
    needed = 'tta_model', 'tta_pipeline', 'test_dataloader'
    missing = [key for key in needed if not cfg.get(key)]
    if missing:
        raise Refused(f'--tta: the config has no {" and no ".join(missing)}')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def dry_run(cfg, verbose=True):
    """Train ten iterations, print what they showed, leave nothing behind.

    Args:
        cfg (Config): as `load_config` returns it; changed in place.
        verbose (bool): as of `prepare`.

    Raises:
        Refused: as `prepare`.
    """
    config_checks.check_sections(cfg, train=True)
    resume = cfg.get('resume')
    checkpoint = resume_checks.set_start(cfg, train=True)
    hook = dict(
        type='mmfd.DryRunHook',
        work_dir=cfg.work_dir,
        anew=bool(resume and not checkpoint))
    cfg.default_hooks = dict(cfg.get('default_hooks') or {}, dry_run=hook)
    if cfg.default_hooks.get('checkpoint'):
        cfg.default_hooks.checkpoint.pop('out_dir', None)
    if cfg.default_hooks.get('logger'):
        cfg.default_hooks.logger.interval = 1
    cfg.visualizer = None
    cfg.model = with_teachers(cfg.model, cached_teacher.without_cache)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        try:
            prepare(cfg, True, verbose).train()
        except StopTraining:
            pass


def adapt_to_gpus(model):
    """Let modules of the hosts be exact in bf16, and copy without waiting."""
    fp32_modules.compute_in_fp32(model)
    for name, module in model.named_children():
        if name == 'data_preprocessor':
            non_blocking.copy_without_waiting(module)


def _read_only_tensors():
    """Let no reader run code from a file.

    The host's own reader would warn of such a file, and then run its code.
    """
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    openmmlab.set_checkpoint_loader(load_for_mmengine)


def _build(cfg, loops, verbose):
    """A Runner with its loops and its optimizer.

    The host would build them, and find what is wrong, when training begins.
    """
    files.make_folder(cfg.work_dir)
    with build_errors_refused(*OF_NUMBERS):
        kind = ShardedRunner if is_sharded(cfg) else Runner
        runner = (kind if verbose else terminal.quiet(kind)).from_cfg(cfg)
    adapt_to_gpus(_unwrapped(runner.model))
    with build_errors_refused(), (nullcontext()
                                  if verbose else log.prints_discarded()):
        for loop in loops:
            if loader := cfg.get(f'{loop}_dataloader'):
                with data_errors_refused(loop, loader.get('dataset') or {}):
                    getattr(runner, f'{loop}_loop')
    if 'train' in loops:
        schedule_checks.check_within(cfg, len(runner.train_dataloader))
        schedule_checks.check_custom_keys(cfg, _unwrapped(runner.model))
        with build_errors_refused(*OF_NUMBERS):
            _build_optimizer(runner)
            schedule_course.check(runner)
    return runner


def _build_optimizer(runner):
    optimizer = runner.cfg.optim_wrapper.get('optimizer', {}).get('type')
    if isinstance(optimizer,
                  str) and not find_class(optimizer, scope_of(runner.cfg)):
        raise Refused(no_such_type(optimizer))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    for each in optimizer_schema.optimizers(runner.optim_wrapper):
        each.register_load_state_dict_pre_hook(optimizer_schema.keep_flags)


def _load_weights(runner, checkpoint, meta):
    """Load a checkpoint of the whole model, or what each part starts from."""
    model = _unwrapped(runner.model)
    branches = branches_of(runner.cfg.model)
    for name, branch in branches.items():
        if (branch.teacher.checkpoint == weight_files.RANDOM and
                not is_sharded(runner.cfg)):  # shards are sent as they are cut
            starting_weights.share_teacher(model.branches[name].teacher)
    if not checkpoint:
        starting_weights.load_pretrained(model)
        if runner.cfg.get('load_from'):
            starting_weights.check_fit(model, runner.cfg.load_from)
            target_checks.check_start(model, runner.cfg.load_from)
        return
    starting_weights.forget_pretrained(model)
    if is_main_process():
        for name, branch in branches.items():
            resume_checks.check_same_teacher(name, branch.teacher,
                                             model.branches[name].teacher,
                                             meta, checkpoint)
    strict_loading.load_into(model, checkpoint)


def _compile_blocks(runner):
    """Compile the blocks of a student, if its config says `compile`.

    In the place of the host's way, which compiles a whole step; that stays for
    segmentors and detectors.
    """
    cfg = runner.cfg
    if not cfg.get('compile') or cfg.get('default_scope') in DOWNSTREAM:
        return
    if compile_blocks.compile_blocks(_unwrapped(runner.model), cfg.compile):
        cfg.compile = False


def _unwrapped(model):
    """The model within wrappers of several processes and several scales."""
    model = openmmlab.unwrapped(model)
    return model.module if isinstance(model, BaseTTAModel) else model
