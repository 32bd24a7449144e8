"""Where weights come from, as the metadata of their files says.

An origin is a dict of strings: `source`, `licence`, `sha256` and the other
`NAMES`; the origins of the files behind a file follow with `teacher.` and
`start.` before their names, as `start.teacher.sha256`; of several teachers
each has its branch's name, as `teacher.clip.sha256`. The names are dotted
because safetensors hold nothing but strings.
"""
import json
import os
import re
from math import isfinite
from pathlib import Path

from mmfd import __version__
from mmfd.registry import branches_of
from mmfd.weights import checkpoints, weight_files

NAMES = ('file', 'recipe', 'mmfd', 'kind', 'source', 'url', 'licence',
         'sha256', 'facts')
PARENTS = ('teacher', 'start')
STATISTICS = dict(  # name -> mean and std of RGB pixels, 0-255
    ImageNet=((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    CLIP=((122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321375,
                                                     70.32316305)))
TRAINED_WITH = {  # kind of a converted file -> statistics of its networks
    **dict.fromkeys(('openai-clip', 'open-clip', 'hf-clip'), 'CLIP'),
    **dict.fromkeys(('dino', 'deit', 'mae', 'esvit', 'fd-official', 'swin',
                     'swinv2'), 'ImageNet'),
}
NOT_ALL = 'open-clip', 'hf-clip'  # kinds of which some have other statistics


def teacher_part(name):
    """What the origin of a branch's teacher begins with.

    Args:
        name (str): of the branch; '' where there is one teacher.
    """
    return f'teacher.{name}' if name else 'teacher'


def fingerprint_key(name):
    """Where the metadata has the hash of a teacher's weights and statistics.

    Args:
        name (str): of its branch.
    """
    return f'{teacher_part(name)}.fingerprint'


def fingerprints(meta):
    """A set of the fingerprints of the teachers that a file's metadata names.

    Those of the teachers of its teachers are not among them.
    """
    return {
        value
        for key, value in meta.items() if re.fullmatch(
            r'teacher(\.(?!teacher\b|start\b)\w+)?\.fingerprint', key)
    }


def of_meta(meta):
    """The origin in a file's metadata, without entries of other names."""
    return {
        name: value
        for name, value in meta.items()
        if _is_short_text(name) and (name in NAMES or name.split('.')[0] in
                                     PARENTS) and _is_short_text(value)
    }


def _is_short_text(value):
    """Whether it can be printed: short, without codes that steer a screen."""
    return isinstance(value, str) and value.isprintable() and len(value) < 1000


def of_file(path):
    """The origin of a file: if its metadata has none, its name and sha256.

    Raises:
        Refused: as `checkpoints.load`.
    """
    return of_meta(checkpoints.meta(path)) or dict(
        source=os.path.basename(path), sha256=weight_files.sha256(path))


def of_run(cfg):
    """The origin of the weights that a run with this config trains."""
    origin = dict(mmfd=__version__)
    if cfg.filename:
        origin['recipe'] = Path(cfg.filename).stem
    backbone = cfg.model.get('backbone', {})
    start = cfg.get('load_from') or (backbone.get('init_cfg')
                                     or {}).get('checkpoint')
    for name, branch in branches_of(cfg.model).items():
        origin.update(_parent(teacher_part(name), branch.teacher.checkpoint))
    if start:
        origin.update(_parent('start', start))
    return origin


def of_facts(part, facts):
    """The origin of a network by name, as its library says it.

    Args:
        part (str): as of `teacher_part`, or '' for the student, which starts
            from weights of its own and has neither source nor licence.
        facts: `mmfd.networks.facts.Facts` of it.
    """
    if not part:
        return dict(facts=facts.as_text())
    origin = dict(
        source=facts.source, licence=facts.licence, facts=facts.as_text())
    return {f'{part}.{key}': text for key, text in origin.items() if text}


def _parent(name, path):
    origin = dict(file=os.path.basename(path))
    if os.path.exists(path):  # not `random`
        origin.update(of_file(path))
    return {f'{name}.{key}': value for key, value in origin.items()}


def of_kind(kind):
    """The statistics of a kind of converted files, as entries of metadata.

    Returns:
        dict: `statistics`, JSON; empty where a kind does not decide them.
    """
    if kind in NOT_ALL or kind not in TRAINED_WITH:
        return {}
    mean, std = STATISTICS[TRAINED_WITH[kind]]
    return dict(statistics=json.dumps(dict(mean=mean, std=std)))


def statistics(meta):
    """Mean and standard deviation that a file's network was trained with.

    Args:
        meta (dict): of the file: its `model` is the config that it carries,
            its `statistics` are those of a converted file.

    Returns:
        dict: `mean` and `std`, RGB 0-255; empty if the file does not say.
    """
    try:
        model = json.loads(meta.get('model') or '{}')
        part = (
            model.get('normalize') or model.get('data_preprocessor')
            or json.loads(meta.get('statistics') or '{}'))
        found = {key: [float(x) for x in part[key]] for key in ('mean', 'std')}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return {}  # a file may hold anything
    fine = all(len(v) == 3 and all(map(isfinite, v)) for v in found.values())
    return found if fine else {}


def img_size(meta):
    """Size of the images that a file's student was distilled on.

    Args:
        meta (dict): of the file.

    Returns:
        tuple[int]: (H, W); None if the file does not say.
    """
    try:
        height, width = map(int, json.loads(meta['img_size']))
    except (KeyError, OverflowError, TypeError, ValueError, RecursionError):
        return None  # a file may hold anything
    return (height, width) if min(height, width) > 0 else None


def of_official(checkpoint):
    """The origin in the options that the official FD code saves."""
    options = checkpoint.get('config')
    if not isinstance(options, dict):
        return {}
    teacher = options.get('DEV')
    origin = {
        'recipe': options.get('TAG'),
        'teacher.source': isinstance(teacher, dict)
        and teacher.get('PRED_FEAT')
    }
    return {k: v for k, v in origin.items() if v and isinstance(v, str)}


def describe(origin):
    """An origin as text, a line for each name; 'unknown' if missing."""
    prefixes = {name[:name.rfind('.') + 1] for name in origin} | {''}
    if not any('teacher.' in prefix for prefix in prefixes):
        prefixes.add('teacher.')
    lines = {}
    for prefix in sorted(prefixes):
        expected = ('source', 'licence', 'sha256') if prefix else ('recipe', )
        for name in NAMES:
            if prefix + name in origin or name in expected:
                lines[prefix + name] = origin.get(prefix + name, 'unknown')
    width = max(map(len, lines))
    return '\n'.join(f'  {name:{width}}  {value}'
                     for name, value in lines.items())
