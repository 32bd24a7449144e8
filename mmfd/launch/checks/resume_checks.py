"""Check the files that a run starts from, before anything is built."""
import json
import os

from mmengine.dist import broadcast_object_list, is_main_process
from torch.utils import serialization

from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.launch.config_paths import pretrained_files, teacher_files
from mmfd.registry import branches_of, place_of, with_teachers
from mmfd.training import cached_teacher, checkpoint_schema
from mmfd.training.last_checkpoint import (find_checkpoints,
                                           last_valid_checkpoint)
from mmfd.training.run_folder import checkpoint_folder
from mmfd.weights import checkpoints, mmengine_reader, provenance, weight_files


def go_on(cfg, checkpoint):
    """Let a run go on from a checkpoint, as `--resume` says.

    What the config loads is where the run begins: `set_start` reads it if
    there is nothing to go on from.

    Args:
        cfg (Config): changed in place.
        checkpoint (str): path; `auto` for the last one of the run's folder.
    """
    cfg.begin_from, cfg.resume = cfg.get('load_from'), True
    cfg.load_from = None if checkpoint == 'auto' else checkpoint


def set_start(cfg, train):
    """Set `load_from` and `resume` to where a run begins or goes on.

    Args:
        cfg (Config): changed in place.
        train (bool): to train, or to test.

    Returns:
        str | None: as `checkpoint_to_fit`.

    Raises:
        Refused: as `checkpoint_to_fit`.
    """
    path, begin_from = checkpoint_to_fit(cfg, train), cfg.get('begin_from')
    if train and cfg.get('resume'):
        cfg.resume, cfg.load_from = bool(path), path or begin_from
        if begin_from:
            log.info(f'load_from={begin_from} is ' +
                     (f'not read, since the run goes on from {path}'
                      if path else 'where the run begins'))
    cfg.pop('begin_from', None)
    return path


def check_files(cfg, train):
    """Find the checkpoint to resume or to test; check all files of a config.

    Args:
        cfg (Config): `load_from` and `resume` are set to what was found.
        train (bool): to train, or to test.

    Returns:
        tuple[str | None, dict]: path of the checkpoint that holds the whole
        model, and its `meta`. None for a run that begins.

    Raises:
        Refused: if a file is missing, cannot be read, or is of another run.
    """
    path, meta = set_start(cfg, train), {}
    for file in {path, cfg.get('load_from')} - {None}:  # often the same
        checkpoint = checkpoints.load(file)
        checkpoints.state_dict_of(checkpoint, file)
        if file != path:
            continue
        if train:
            check_resumable(checkpoint, path)
            mmengine_reader.rebuild_numbers(checkpoint, path)
            checkpoint_schema.check_file(checkpoint, path)
        if isinstance(checkpoint.get('meta'), dict):
            meta = checkpoint['meta']
        if train:
            check_same_model(cfg.model, meta, path)
    teachers = [
        branch['teacher'] or {} for branch in branches_of(cfg.model).values()
    ]
    if train or weight_files.RANDOM in (t.get('checkpoint') for t in teachers):
        _keep_seed(cfg, meta)
    for file, source in teacher_files(cfg.model):
        # refused before billions of weights are drawn
        weight_files.resolve(file, source)
    if not path:
        for file in pretrained_files(cfg.model):
            check_not_classified(
                cfg.model,
                checkpoints.load(file, source=cfg.get('source', '')), file)
    return path, meta


def _keep_seed(cfg, meta):
    """Let a run that goes on draw what it drew when it began.

    The host takes the seed of the checkpoint, too, but only when the model is
    built, and with it a random teacher, which is in no checkpoint.

    Args:
        cfg (Config): changed in place.
        meta (dict): of the checkpoint; empty for a run that begins.
    """
    randomness = dict(cfg.get('randomness') or {})
    ours, seed = randomness.get('seed'), meta.get('seed')
    if type(seed) is not int or seed == ours:
        return
    if ours is not None:
        log.warn(f'randomness.seed={ours} is another one than that of the '
                 f'run, {seed}, which stays')
    cfg.randomness = dict(randomness, seed=seed)


def checkpoint_to_fit(cfg, train):
    """Path of the checkpoint to resume or to test; None for a run that begins.

    The first process looks for all.

    Raises:
        Refused: for a folder, and as `last_checkpoint`.
    """
    if train and cfg.get('resume') and not cfg.get('load_from'):
        found = [is_main_process() and last_checkpoint(checkpoint_folder(cfg))]
        broadcast_object_list(found)
        return found[0]
    path = cfg.get('load_from') if cfg.get('resume') or not train else None
    if path and train and os.path.isdir(path):
        raise Refused(f'{path} is a folder, and a run goes on from a '
                      f'checkpoint: --work-dir {path} --resume takes the last '
                      'one there, --resume FILE another')
    return path


def last_checkpoint(folder):
    """What `--resume` goes on from; None where nothing has been written.

    Raises:
        Refused: if there are checkpoints, and none of the last run there can
            be read.
    """
    last = last_valid_checkpoint(folder)
    if not last and (files := find_checkpoints(folder)):
        raise Refused(
            f'none of {len(files)} checkpoints in {folder} can be gone on '
            f'from, such as {files[0]}; the log says why. Name one with '
            '--resume PATH, or start anew in another --work-dir')
    return last


def check_resumable(checkpoint, path):
    """Refuse a file of weights that was never a checkpoint of a training run.

    Args:
        checkpoint (dict): what `checkpoints.load` read from `path`.
    """
    meta = checkpoint.get('meta')
    if not (isinstance(meta, dict) and {'epoch', 'iter'} <= meta.keys()):
        raise Refused(
            f'{path} does not say at which epoch and iteration it was saved, '
            'so no run can go on from it. To start anew from its weights: '
            f'--cfg-options load_from={path}, without --resume')
    if 'optimizer' not in checkpoint:
        raise Refused(
            f'{path} holds no state of an optimizer, which best_*.pth never '
            'do, and others not with default_hooks.checkpoint.save_optimizer='
            'False, so no run can go on from it. --resume FILE goes on from '
            'another, such as interim_N.pth; to start anew from its weights: '
            f'--cfg-options load_from={path}, without --resume')


def check_same_state(runner, path):
    """Refuse to resume what this run's optimizer or hooks could not load.

    Args:
        runner (Runner): with loops and optimizer built.
        path (str): of the checkpoint.
    """
    with serialization.config.patch('load.mmap', True):  # read once, in turn
        checkpoint = checkpoints.load(path)
        mmengine_reader.rebuild_numbers(checkpoint, path)
        checkpoint_schema.check_run(checkpoint, path, runner)


def check_same_model(model, meta, path):
    """Refuse to resume with another model, even one of the same shapes.

    Args:
        model (dict): the config's.
        meta (dict): of the checkpoint, where `mmfd.ProvenanceHook` has written
            the model that it was trained with.
    """
    before = meta.get('model')
    if before is None:
        return
    now = json.loads(json.dumps(model, default=str))
    try:
        changed = [
            *_changes(
                _without_caches(json.loads(before)), _without_caches(now))
        ]
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise Refused(f'{path} carries no readable config of its model: '
                      f'{error}') from error
    if changed:
        raise Refused(
            f'{path} is of another run: {"; ".join(changed[:5])}. Resume it '
            'with its own config, or start anew from its weights with '
            f'--cfg-options load_from={path} and without --resume')


def check_same_teacher(name, config, teacher, meta, path):
    """Refuse to resume with another teacher, even in a file of the same name.

    Args:
        name (str): of its branch, '' where there is one teacher.
        config (dict): of the teacher.
        teacher (Teacher): built from it.
        meta (dict): of the checkpoint at `path`.
    """
    before = meta.get(provenance.fingerprint_key(name))
    if before not in (None, weight_files.RANDOM, teacher.fingerprint):
        raise Refused(
            f'{path} was trained against the teacher '
            f'{meta.get(f"{provenance.teacher_part(name)}.file", "?")} with '
            f'fingerprint {before}, and '
            f'{config.checkpoint} is another one, with fingerprint '
            f'{teacher.fingerprint}: its weights or statistics differ. Set '
            f'{place_of(name)}.teacher.checkpoint and normalize to those of '
            'the run')


def check_not_classified(model, checkpoint, path):
    """Refuse to begin a fine-tuning with the result of such a fine-tuning.

    A classifier of another number of classes may be a start, as a network goes
    on from ImageNet-22K to ImageNet-1K; not for a linear probe.

    Args:
        model (dict): the config's.
        checkpoint (dict): what `checkpoints.load` read from `path`.
    """
    classes = (model.get('head') or {}).get('num_classes')
    head = checkpoints.state_dict_of(checkpoint, path).get('head.fc.bias')
    probe = model.get('type') == 'mmfd.LinearProbe'
    if head is not None and (probe or head.numel() == classes):
        raise Refused(
            f'{path} is fine-tuned already, a classifier of {head.numel()} '
            'classes as this config trains; here a distilled student or '
            'another pre-trained backbone is expected. tools/test.py CONFIG '
            'FILE tests it, --cfg-options load_from=FILE trains it further, '
            'head and all')


def _without_caches(model):
    """The config of a model with plain teachers for cached ones."""
    return with_teachers(
        model, lambda teacher: cached_teacher.without_cache(teacher)
        if isinstance(teacher, dict) else teacher)


def _changes(before, now, where='model'):
    """Sentences: what differs between two configs, but for moved files."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        moved = where.endswith(
            ('.checkpoint', '.neck.statistics')) and (os.path.basename(
                before or '') == os.path.basename(now or ''))
        if before != now and not moved:
            yield f'{where} was {before!r}, is {now!r}'
        return
    for key in sorted({*before, *now} - {'source', 'init_cfg'}):
        yield from _changes(before.get(key), now.get(key), f'{where}.{key}')
