"""Where weights come from, as files say it of themselves."""
import os
from pathlib import Path

from mmfd import __version__
from mmfd.weights import checkpoints

# What a file tells of itself, and after `teacher.` or `start.` of the files
# behind it. Dotted, since safetensors hold nothing but strings.
NAMES = ('file', 'recipe', 'mmfd', 'kind', 'source', 'url', 'licence',
         'sha256')
PARENTS = ('teacher', 'start')
FINGERPRINT = 'teacher.fingerprint'  # of its weights and statistics


def of_meta(meta):
    """What tells of origins in what stands beside weights: name -> str."""
    return {
        name: value
        for name, value in meta.items() if _is_plain(name) and
        (name in NAMES or name.split('.')[0] in PARENTS) and _is_plain(value)
    }


def _is_plain(text):
    """Whether it can be shown: no book, and nothing that steers a screen."""
    return isinstance(text, str) and text.isprintable() and len(text) < 1000


def of_file(path):
    """Of a file that says nothing, its name and sha256 at least.

    Raises:
        Refused: as `checkpoints.load`.
    """
    return of_meta(checkpoints.meta(path)) or dict(
        source=os.path.basename(path), sha256=checkpoints.sha256(path))


def of_run(cfg):
    """What the weights that a config trains are to say of themselves."""
    told = dict(mmfd=__version__)
    if cfg.filename:
        told['recipe'] = Path(cfg.filename).stem
    teacher, backbone = cfg.model.get('teacher'), cfg.model.get('backbone', {})
    start = cfg.get('load_from') or (backbone.get('init_cfg')
                                     or {}).get('checkpoint')
    if teacher:
        told.update(_parent('teacher', teacher.checkpoint))
    if start:
        told.update(_parent('start', start))
    return told


def _parent(name, path):
    told = dict(file=os.path.basename(path))
    if os.path.isfile(path):  # not `random`
        told.update(of_file(path))
    return {f'{name}.{key}': value for key, value in told.items()}


def of_options(checkpoint):
    """What FD's own options, which it saves beside its weights, tell."""
    options = checkpoint.get('config')
    if not isinstance(options, dict):
        return {}
    teacher = options.get('DEV')
    told = {
        'recipe': options.get('TAG'),
        'teacher.source': isinstance(teacher, dict)
        and teacher.get('PRED_FEAT')
    }
    return {k: v for k, v in told.items() if v and isinstance(v, str)}


def describe(told):
    """A line for each thing told, and for what should be and is not."""
    roots = {name[:name.rfind('.') + 1] for name in told} | {''}
    if not any(root.endswith('teacher.') for root in roots):
        roots.add('teacher.')
    lines = {}
    for root in sorted(roots):
        expected = ('source', 'licence', 'sha256') if root else ('recipe', )
        for name in NAMES:
            if root + name in told or name in expected:
                lines[root + name] = told.get(root + name, 'unknown')
    width = max(map(len, lines))
    return '\n'.join(f'  {name:{width}}  {value}'
                     for name, value in lines.items())
