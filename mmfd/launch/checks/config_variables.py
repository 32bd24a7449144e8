"""Refuse variables at the top of config files that have no effect.

A config file is Python: `img_size = 224` at its top is a variable from which
lines below it build settings. Where a later file gives it another value,
nothing is built anew.
"""
import ast
import difflib
import os
import re
from pathlib import Path
from typing import NamedTuple

from mmfd.errors import Refused
from mmfd.hosts import openmmlab
from mmfd.hosts.config_tree import settings

# Sections of configs of OpenMMLab 1, which have other names now
FORMER = dict(
    checkpoint_config='default_hooks.checkpoint',
    cudnn_benchmark='env_cfg.cudnn_benchmark',
    data='train_dataloader, val_dataloader and test_dataloader',
    dist_params='env_cfg.dist_cfg',
    evaluation='val_evaluator and train_cfg.val_interval',
    fp16='optim_wrapper.type=mmfd.AmpOptimWrapper',
    log_config='default_hooks.logger',
    lr_config='param_scheduler',
    mp_start_method='env_cfg.mp_cfg.mp_start_method',
    opencv_num_threads='env_cfg.mp_cfg.opencv_num_threads',
    optimizer='optim_wrapper.optimizer',
    optimizer_config='optim_wrapper.clip_grad',
    resume_from='load_from and resume=True',
    runner='train_cfg',
    seed='randomness.seed',
    total_epochs='train_cfg.max_epochs',
    workflow='train_cfg and val_cfg')


class _File(NamedTuple):
    """A config file: what it assigns at its top, and which names it reads."""
    path: str
    assigned: dict  # name -> the expression, as text
    read: set

    @property
    def is_of_library(self):
        """Whether it came with an installed package."""
        return f'{os.sep}.mim{os.sep}' in self.path


def check(cfg, sections):
    """Refuse variables that have no effect.

    Variables that nothing contradicts may stand at the top of a file unread,
    and so may all in the files of libraries.

    Args:
        cfg (Config): as it was read from its file.
        sections (set): names at the top level that something reads.

    Raises:
        Refused: naming the variable, and what to set in its place.
    """
    files = _files(cfg.filename)
    read = set().union(*(file.read for file in files))
    built = {key: cfg.get(key) for key in sorted(sections)}
    for number, file in enumerate(files):
        if file.is_of_library:
            continue
        for name in file.assigned.keys() - sections - {'_base_'}:
            if name not in read and file.assigned[name] != 'None':
                _check_name(name, file, sections)
            _check_override(name, files[:number], files[number:], built)


def assigned_by_user(filename):
    """Names at the top of the files of a config that no library brought."""
    return {
        name
        for file in _files(filename) if not file.is_of_library
        for name in file.assigned
    }


def words_of_libraries(filename):
    """All words in the files of libraries that a config is based on."""
    return {
        word
        for file in _files(filename) if file.is_of_library
        for word in re.findall(r'\w+',
                               Path(file.path).read_text())
    }


def places_of(name, value, sections):
    """Where a variable's value went: dotted paths of settings, at most 8.

    Args:
        name (str): of the variable.
        value: that it had.
        sections (dict): top-level name -> section of the config.
    """
    same = [
        path for path, setting in settings(sections) if value is not None
        and setting == value and type(setting) is type(value)
    ]
    named = [
        path for path, _ in settings(sections)
        if path.rpartition('.')[2] == name
    ]
    return [*dict.fromkeys([*named, *same])][:8]


def _check_name(name, file, sections):
    """Refuse a section that is misspelt or of OpenMMLab 1."""
    if name in FORMER:
        raise Refused(f'{name} in {file.path} has no effect, as nothing reads '
                      f'it since OpenMMLab 2: set {FORMER[name]}')
    # `test_pipeline`, a variable of many configs, is spelt nearly so
    near = difflib.get_close_matches(
        name, sections - {'tta_pipeline'}, n=1, cutoff=0.8)
    if near:
        raise Refused(f'{name} in {file.path} has no effect, as nothing reads '
                      f'it: did you mean {near[0]!r}?')


def _check_override(name, before, after, built):
    """Refuse another value for a variable that has been used already.

    Args:
        name (str): of the variable.
        before (list[_File]): bases of the file that assigns it.
        after (list[_File]): that file, and those that are based on it.
        built (dict): sections of the config.
    """
    old = [file for file in before if name in file.assigned]
    file = after[0]
    if (not old or old[-1].assigned[name] == file.assigned[name]
            or not any(name in earlier.read for earlier in before)
            or any(name in later.read for later in after)):
        return
    text = old[-1].assigned[name]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):  # an expression
        value = object()
    places = places_of(name, value, built)
    raise Refused(
        f'{name}={file.assigned[name]} in {file.path} has no effect: '
        f'{old[-1].path} has built settings with {name}={text} already. Set '
        f'{" ".join(places) or "them"} in its place')


def _files(path):
    """The file of a config and those that it is based on, bases first."""
    return [_parse(file) for file in openmmlab.config_files(path)]


def _parse(path):
    if not path.endswith('.py'):
        return _File(path, {}, set())
    tree = ast.parse(Path(path).read_text(encoding='utf-8'))
    assigned = {}
    for line in tree.body:
        if isinstance(line, ast.Assign):
            for name in line.targets:
                if isinstance(name, ast.Name):
                    assigned[name.id] = ast.unparse(line.value)
    return _File(path, assigned, {*_names_read(tree)})


def _names_read(tree):
    """Names that a file reads, of its own or of its `_base_`."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                yield name
            case ast.Attribute(value=ast.Name(id='_base_'), attr=name):
                yield name
            case (ast.Subscript(
                value=ast.Name(id='_base_'), slice=ast.Constant(value=name))
                  | ast.Call(
                      func=ast.Attribute(value=ast.Name(id='_base_')),
                      args=[ast.Constant(value=name), *_])):
                yield name
