"""Whether a run can go on from a checkpoint, or begin with it."""
import json
import os

from mmengine.dist import broadcast_object_list, is_main_process

from mmfd.errors import Refused
from mmfd.training import cached_teacher
from mmfd.training.last_checkpoint import (find_checkpoints,
                                           last_valid_checkpoint)
from mmfd.weights import checkpoints, provenance


def check_same_teacher(config, teacher, told, path):
    """Refuse another one than was learnt from, be it of the same name."""
    before = told.get(provenance.FINGERPRINT)
    if before not in (None, teacher.fingerprint):
        raise Refused(
            f'{path} was trained against the teacher '
            f'{told.get("teacher.file", "?")} with fingerprint {before}, and '
            f'{config.checkpoint} is another one, with fingerprint '
            f'{teacher.fingerprint}: its weights or statistics differ. Set '
            'model.teacher.checkpoint and normalize to those of the run')


def check_resumable(checkpoint, path):
    """Refuse a checkpoint without what the host will ask of it."""
    meta = checkpoint.get('meta')
    told = meta if isinstance(meta, dict) else {}
    if not all(isinstance(told.get(k), int) for k in ('epoch', 'iter')):
        raise Refused(
            f'{path} does not say at which epoch and iteration it was saved, '
            'so no run can go on from it. To start anew from its weights: '
            f'--cfg-options load_from={path}, without --resume')
    if not isinstance(checkpoint.get('optimizer'), dict):
        raise Refused(f'{path} holds no state of an optimizer, so no run '
                      'can go on from it. To start anew from its weights: '
                      f'--cfg-options load_from={path}, without --resume')


def check_same_model(model, told, path):
    """Refuse to go on with another model, even one of the same shapes."""
    before = told.get('model')  # by mmfd.ProvenanceHook
    if before is None:
        return
    now = json.loads(json.dumps(model, default=str))
    try:
        changed = [*_changes(_live(json.loads(before)), _live(now))]
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise Refused(f'{path} carries no readable config of its model: '
                      f'{error}') from error
    if changed:
        raise Refused(
            f'{path} is of another run: {"; ".join(changed[:5])}. Resume it '
            'with its own config, or start anew from its weights with '
            f'--cfg-options load_from={path} and without --resume')


def _live(model):
    """The config of a model without its teacher's cache."""
    teacher = model.get('teacher')
    if not isinstance(teacher, dict):
        return model
    return dict(model, teacher=cached_teacher.without_cache(teacher))


def check_not_classified(model, checkpoint, path):
    """Refuse to begin with what such a fine-tuning ends with.

    A classifier of another number of classes is a start, but for a linear
    probe: a network goes on from ImageNet-22K to ImageNet-1K.
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


def _changes(before, now, where='model'):
    """What differs between two configs, but for the folders of files."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        moved = where.endswith('.checkpoint') and (os.path.basename(
            before or '') == os.path.basename(now or ''))
        if before != now and not moved:
            yield f'{where} was {before!r}, is {now!r}'
        return
    for key in sorted({*before, *now} - {'source', 'init_cfg'}):
        yield from _changes(before.get(key), now.get(key), f'{where}.{key}')


def checkpoint_to_fit(cfg, train):
    """The checkpoint that must fit the model, to resume or to test it."""
    if train and cfg.get('resume') and not cfg.get('load_from'):
        found = [is_main_process() and _last(cfg.work_dir)]
        broadcast_object_list(found)
        return found[0]
    return cfg.get('load_from') if cfg.get('resume') or not train else None


def _last(work_dir):
    """What --resume goes on from; None of a run that has written nothing."""
    last = last_valid_checkpoint(work_dir)
    if not last and (files := find_checkpoints(work_dir)):
        raise Refused(
            f'none of {len(files)} checkpoints in {work_dir} can be gone on '
            f'from, such as {min(files)}; the log says why. Start anew in '
            'another --work-dir')
    return last
