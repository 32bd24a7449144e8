"""From a command line to a Runner."""
import difflib
import inspect
import json
import logging
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine import registry
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.dist import (barrier, broadcast_object_list, get_rank,
                           is_main_process)
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import (EpochBasedTrainLoop, LogProcessor, Runner,
                             TestLoop, ValLoop)
from mmengine.runner.utils import set_random_seed
from torch.utils import serialization
from torch.utils.data import DataLoader

from mmfd import (agreement, cache, checkpoints, compilation, files,
                  host_reader, ops, processes, provenance, versions)
from mmfd.dry_run import NO_CHECKPOINT, Enough
from mmfd.errors import Refused
from mmfd.resume import last_whole, written
from mmfd.sharding import ShardedRunner

# What takes a config dict that names no type.
TYPELESS = dict(
    train_cfg=EpochBasedTrainLoop,
    val_cfg=ValLoop,
    test_cfg=TestLoop,
    train_dataloader=DataLoader,
    val_dataloader=DataLoader,
    test_dataloader=DataLoader,
    log_processor=LogProcessor,
    randomness=set_random_seed,
    clip_grad=torch.nn.utils.clip_grad_norm_)
# What the Runner reads from the config beside its own arguments.
ALSO_READ = {
    'compile', 'model_wrapper_cfg', 'find_unused_parameters',
    'activation_checkpointing', 'runner_type', 'strategy'
}

# Where a `type` is looked up; what mmpretrain has no part in, it warns of.
CLASSES = [
    root for root in vars(registry).values()
    if isinstance(root, Registry) and root not in (registry.FUNCTIONS,
                                                   registry.INFERENCERS)
]
# Libraries that an extra of setup.cfg brings.
DOWNSTREAM = ('mmseg', 'mmdet')


def load_config(args):
    """The config that a command line means.

    Raises:
        Refused: if the file or one of `--cfg-options` makes no sense.
    """
    versions.check()
    cfg = read_config(args.config)
    if cfg.get('default_scope') in DOWNSTREAM:
        ops.install()  # before anything imports their models
    cfg.work_dir = cfg.get('work_dir') or os.path.join('work_dirs',
                                                       Path(args.config).stem)
    override(cfg, args.cfg_options)
    if args.data_root:
        _set_data_root(cfg, args.data_root)
    cfg.work_dir = args.work_dir or cfg.work_dir
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return cfg


def _set_data_root(cfg, folders):
    """Put folders in the place of every data_root of a dataset.

    Stock configs have it in the annotations of their evaluators too.

    Raises:
        Refused: for several folders, if a dataset takes but one.
    """
    first, *others = folders
    before = set()
    for loop in ('train', 'val', 'test'):
        loader = cfg.get(f'{loop}_dataloader') or {}
        for dataset in _dicts(loader.get('dataset')):
            if 'data_root' not in dataset:
                continue
            if others and not dataset.type.startswith('mmfd.'):
                raise Refused(f'--data-root has {len(folders)} folders: '
                              f'{dataset.type} takes one')
            before.add(dataset.data_root)
            dataset.data_root = folders if others else first
    for loop in ('val', 'test'):
        for metric in _dicts(cfg.get(f'{loop}_evaluator')):
            path = str(metric.get('ann_file') or '')
            for root in filter(path.startswith, map(str, before)):
                metric.ann_file = os.path.join(first,
                                               path[len(root):].lstrip('/'))


def _dicts(node):
    """A config node and all below it that are dicts."""
    if isinstance(node, dict):
        yield node
        node = [*node.values()]
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _dicts(value)


def override(cfg, options):
    """Put settings in the place of a config's own.

    Raises:
        Refused: if one of them is no setting there.
    """
    for key in options:
        _check_option(cfg, options, key)
    try:
        cfg.merge_from_dict(options)
    except TypeError as error:  # keys below what is no dict
        raise Refused(f'--cfg-options: {error}') from error


def read_config(path):
    """A config file as it is.

    Raises:
        Refused: if it is none.
    """
    if not os.path.isfile(path):
        raise Refused(f'no config file {path}')
    MODULE2PACKAGE['mmseg'] = 'mmseg'  # whatever the distribution is called
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is Python and may raise anything
        lacking = isinstance(error, ImportError) and error.name in DOWNSTREAM
        advice = ": pip install 'mmfd[downstream]'" if lacking else ''
        raise Refused(f'config {path}: {type(error).__name__}: '
                      f'{error}{advice}') from error


def _check_option(cfg, options, key):
    """Refuse a key that is neither in the config nor an argument there.

    At the top only what the Runner takes counts: a variable that the file
    uses to build other settings has been used already.
    """
    hooks = re.findall(r'default_hooks\.(\w+)\.type\b', ' '.join(options))
    node, known = cfg, {*inspect.signature(Runner).parameters, *ALSO_READ}
    parts = key.split('.')
    for i, part in enumerate(parts):
        if part not in known:
            where = '.'.join(parts[:i]) or 'the config'
            raise Refused(f'--cfg-options {key}: {where} has no {part!r}; '
                          f'{_did_you_mean(part, known, cfg)}')
        if isinstance(node, (list, tuple)):
            node = node[int(part)]  # known, so a number
        else:
            node = node.get(part)
        if isinstance(node, (list, tuple)):
            known = {str(index) for index in range(len(node))}
        elif part == 'default_hooks':
            known = {*node, *hooks}
        elif isinstance(node, dict):
            known = _known(part, node, cfg.get('default_scope'))
        else:
            return  # what follows, if anything, is new


def _known(name, node, scope):
    """Keys of a config dict, and arguments of what it is given to."""
    taker = TYPELESS.get(name)
    if isinstance(node.get('type'), str):
        taker = _find(node['type'], scope or 'mmpretrain')
    takers = inspect.getmro(taker) if inspect.isclass(taker) else [taker]
    arguments = [
        argument for taker in takers if taker is not None
        for argument in inspect.signature(
            taker.__init__ if inspect.isclass(taker) else taker).parameters
    ]
    return {*node, *arguments, 'paramwise_cfg'} - {'self', 'args', 'kwargs'}


def _find(name, scope):
    """The class that a config means by `type=name`."""
    with DefaultScope.overwrite_default_scope(scope):
        for root in CLASSES:
            with root.switch_scope_and_registry(None) as found:
                cls = found.get(name)
            if cls is not None:
                return cls


def _no_type(name):
    """That nothing is called so, and what is called nearly so."""
    known = []
    for root in CLASSES:
        known += root.module_dict
        for scope, own in root.children.items():
            known += [f'{scope}.{cls}' for cls in own.module_dict]
    near = difflib.get_close_matches(name, known, n=1)
    advice = (f'; did you mean {near[0]!r}?'
              if near else ': check its spelling and custom_imports')
    return f'nothing is called type={name!r}{advice}'


def _did_you_mean(part, known, cfg):
    paths = [path for path in _paths(cfg) if path.split('.')[-1] == part]
    if paths:
        return f'did you mean {" or ".join(map(repr, paths[:3]))}?'
    near = difflib.get_close_matches(part, known, n=1)
    return (f'did you mean {near[0]!r}?'
            if near else f'known are {", ".join(sorted(known))}')


def _paths(node, path=''):
    """Dotted paths of all that the Runner takes from a config."""
    takes = {*inspect.signature(Runner).parameters} if not path else node
    for key, value in node.items():
        if key in takes:
            yield f'{path}{key}'
            if isinstance(value, dict):
                yield from _paths(value, f'{path}{key}.')


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
        cache.check(cfg)
        _check_shards(cfg)
    whole = _whole_model(cfg, train)
    resume = train and cfg.get('resume')
    if resume:
        cfg.load_from, cfg.resume = whole, bool(whole)
    for path in {whole, cfg.get('load_from')} - {None}:  # often the same
        checkpoint = checkpoints.load(path)
        checkpoints.state_dict_of(checkpoint, path)
        if path == whole:
            told = checkpoint.get('meta', {})
            if train:
                _check_resumable(checkpoint, path)
                _check_same_model(cfg.model, told, path)
    teacher = cfg.model.get('teacher')
    if teacher and teacher.checkpoint != checkpoints.RANDOM:
        # to say so before billions of weights are drawn
        checkpoints.files_of(teacher.checkpoint, teacher.get('source', ''))
    if not whole:
        for path in _pretrained(cfg.model):
            _check_not_classified(
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
                _check_same_teacher(teacher, model.teacher, told, whole)
            checkpoints.load_into(model, whole)
        ours = cfg.get('compile') and cfg.get(
            'default_scope') not in DOWNSTREAM
        if ours and compilation.compile_blocks(model, cfg.compile):
            runner.cfg.compile = False  # the host's, of the step as a whole
        loader = runner.train_dataloader if train else runner.test_dataloader
        agreement.check(cfg.model, loader)
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
    whole = _whole_model(cfg, train=True)
    hook = dict(
        type='mmfd.DryRun',
        work_dir=cfg.work_dir,
        anew=bool(cfg.get('resume') and not whole))
    cfg.default_hooks.dry_run = hook
    cfg.visualizer = None
    cfg.resume = bool(whole)
    cfg.load_from = whole or cfg.get('load_from')
    if cfg.model.get('teacher'):
        cfg.model.teacher = cache.live(cfg.model.teacher)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        try:
            prepare(cfg, train=True).train()
        except Enough:
            pass


def _wrap(cfg):
    """The host's wrapper takes a GPU for granted."""
    if not torch.cuda.is_available() and not _sharded(cfg):
        own = cfg.get('model_wrapper_cfg') or dict(broadcast_buffers=False)
        cfg.model_wrapper_cfg = dict(own, device_ids=None)


def _unsynchronise(cfg):
    """SyncBN takes several GPUs for granted."""
    for node in _dicts(cfg.model):
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


def _check_same_teacher(config, teacher, told, path):
    """Refuse another one than was learnt from, be it of the same name."""
    before = told.get(provenance.FINGERPRINT)
    if before not in (None, teacher.fingerprint):
        raise Refused(
            f'{path} was trained against the teacher '
            f'{told.get("teacher.file", "?")} with fingerprint {before}, and '
            f'{config.checkpoint} is another one, with fingerprint '
            f'{teacher.fingerprint}: its weights or statistics differ. Set '
            'model.teacher.checkpoint and normalize to those of the run')


def _check_resumable(checkpoint, path):
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


def _check_same_model(model, told, path):
    """Refuse to go on with another model, even one of the same shapes."""
    before = told.get('model')  # by mmfd.Provenance
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
    return dict(model, teacher=cache.live(teacher))


def _check_not_classified(model, checkpoint, path):
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
            if isinstance(optimizer, str) and not _find(
                    optimizer, runner.default_scope.scope_name):
                raise Refused(_no_type(optimizer))
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
        what = _no_type(
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


def _whole_model(cfg, train):
    """The checkpoint that must fit the model, to resume or to test it."""
    if train and cfg.get('resume') and not cfg.get('load_from'):
        found = [is_main_process() and _last(cfg.work_dir)]
        broadcast_object_list(found)
        return found[0]
    return cfg.get('load_from') if cfg.get('resume') or not train else None


def _last(work_dir):
    """What --resume goes on from; None of a run that has written nothing."""
    last = last_whole(work_dir)
    if not last and (files := written(work_dir)):
        raise Refused(
            f'none of {len(files)} checkpoints in {work_dir} can be gone on '
            f'from, such as {min(files)}; the log says why. Start anew in '
            'another --work-dir')
    return last


def _pretrained(node):
    """Every file that an `init_cfg` in a config names; the host fetches."""
    for init in _dicts(node):
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
