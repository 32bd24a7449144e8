"""Distil any teacher, or several, into any student, all by name."""
import os
import re
import shlex

from mmengine.config import Config

from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.launch import paths
from mmfd.networks import by_name, names
from mmfd.networks.library_network import pair
from mmfd.recipes import amounts, images, runs
from mmfd.recipes.config_text import code, config_text
from mmfd.recipes.student import FILE, load_student, save_student
from mmfd.training.last_checkpoint import last_valid_checkpoint
from mmfd.weights import provenance
from mmfd.weights.carried_config import is_trusted

SEVERAL = paths.SHIPPED / 'configs/_base_/several_teachers.py'


def distill(data,
            teacher,
            student,
            out=None,
            epochs=None,
            img_size=None,
            batch_size=None,
            lr=None,
            amp=None,
            stages=1,
            resume=False,
            dry_run=False,
            verbose=False):
    """Train a student on the whitened tokens of a teacher, or of several.

    What is left out is chosen for the images at hand, and the log says what
    and why. The config of the run is written to `recipe/` in its folder, the
    student to `student.safetensors`.

    Args:
        data (str | list[str]): folders of images.
        teacher (str | list[str]): a network by name, with its weights, as
            `by_name.find` takes it: `timm:NAME=FILE`, or `timm:NAME` where
            they can be downloaded. Of several each counts the same.
        student (str): the same; `timm:resnet50` has random weights.
        out (str): folder of the run.
        epochs (int): how often each image is seen.
        img_size (int | tuple[int]): side, or (height, width), of what both
            networks see. None: what the student's weights are trained at.
        batch_size (int): images of an update.
        lr (float): highest learning rate, of such a batch.
        amp (bool): mixed precision. None: where there is a GPU.
        stages (int): how often; from the second on the teacher is the student
            of the stage before, whose run is `stage_1/` and so on in `out`
            (dBOT, arXiv 2209.03917). Each student begins anew.
        resume (bool): go on where the run in `out` was stopped.
        dry_run (bool): train ten iterations and print what they showed.
        verbose (bool): print the whole log.

    Returns:
        Student: ready to be used; None after a dry run.

    Raises:
        Refused: if there is no such network, file or image, or another run in
            `out`; for less than one stage.
    """
    runs.begin(verbose)
    if stages < 1:
        raise Refused(f'stages={stages}: one or more is expected')
    options = epochs, img_size, batch_size, lr, amp
    if dry_run:
        recipe = plan(data, teacher, student, out, *options)
        return runs.dry_run(recipe, verbose)
    if stages > 1:
        out = os.path.abspath(out or _folder(teacher, student))
    for stage in range(1, stages):
        folder = os.path.join(out, f'stage_{stage}')
        file = os.path.join(folder, FILE)
        recipe = plan(data, teacher, student, folder, *options)
        if resume and os.path.exists(file):
            runs.write(recipe, resume)  # refused if it is of another run
        else:
            log.info(f'stage {stage} of {stages}, in {folder}')
            _train(recipe, resume, verbose)
        teacher = f'{student.partition("=")[0]}={file}'
    return _train(plan(data, teacher, student, out, *options), resume, verbose)


def _train(recipe, resume, verbose):
    """Train a student, write it into the folder of its run and load it."""
    cfg = runs.train(recipe, resume, verbose).cfg
    file = os.path.join(recipe.out, FILE)
    save_student(last_valid_checkpoint(recipe.out), cfg.model, cfg.size, file)
    log.info(f'the student is {file}; a classifier is made of it by\n'
             f'  mmfd finetune --student {shlex.quote(file)} --data DIR')
    return load_student(recipe.out)


def plan(data, teacher, student, out, epochs, img_size, batch_size, lr, amp):
    """The `runs.Recipe` of a distillation; arguments as of `distill`."""
    data = images.absolute(data)
    img_size = pair(img_size)
    command = runs.command('distill', **locals())
    named = _by_short_name(teacher)
    name = _name(named, student)
    out = os.path.abspath(out or _folder(teacher, student))
    found = images.look_at(data)
    size = img_size or by_name.find(student).facts.img_size
    student = by_name.find(student, size)
    teachers = {key: by_name.find(text, size) for key, text in named.items()}
    if not is_trusted(student.backbone):
        raise Refused(f'{student.facts.name} cannot be read back from a file '
                      'of weights, so it is distilled by a config: see '
                      'docs/add_a_teacher.md')
    chosen = amounts.choose(amounts.DISTILLATION, found.train,
                            student.facts.width, epochs, batch_size, lr, amp)
    facts = [f'teacher {t.facts.describe()}' for t in teachers.values()]
    facts += [f'student {student.facts.describe()}']
    settings = f'''
size = {size}  # (H, W) of the crops, and in evaluation
model = {code(_model(teachers, student, size))}
{images.loaders(found, data, size, chosen.batch_size)}
{chosen.settings()}
work_dir = {out!r}
'''
    names = ' and '.join(t.facts.name for t in teachers.values())
    base = 'distillation' if len(teachers) == 1 else 'several_teachers'
    text = config_text(f'{student.facts.name} learns from {names}.', command,
                       facts + chosen.why, f'_base_/by_name/{base}.py',
                       settings)
    return runs.Recipe(name, text, chosen.why, out)


def _folder(teacher, student):
    """Where a run is that nobody has named a folder for."""
    return os.path.join('work_dirs', _name(_by_short_name(teacher), student))


def _name(teachers, student):
    return f'{_short(student)}_from_{"_and_".join(teachers)}'


def _short(text):
    """A network's name as a part of the name of a file."""
    name = names.split(text)[1].rstrip('/')
    return re.sub(r'\W+', '_', name.rpartition('/')[2])


def _by_short_name(teachers):
    """A name for each teacher that is a key of a config -> its text."""
    named = {}
    for text in [teachers] if isinstance(teachers, str) else teachers:
        short = _short(text)
        if not short.isidentifier() or short in provenance.PARENTS:
            short = f'teacher_{short}'
        alike = sum(re.sub(r'__\d+$', '', key) == short for key in named)
        named[f'{short}__{alike + 1}' if alike else short] = text
    return named


def _model(teachers, student, size):
    """The config of a model but for what every distillation has."""
    model = dict(
        normalize=student.facts.statistics(), backbone=_started(student))
    if len(teachers) == 1:
        [teacher] = teachers.values()
        return dict(_branch(teacher, student, size), **model)
    of_each, branches = Config.fromfile(SEVERAL).branch.to_dict(), {}
    for name, teacher in teachers.items():
        parts = _branch(teacher, student, size)
        neck = dict(of_each['neck'], **parts['neck'])
        branches[name] = dict(parts, neck=neck, head=of_each['head'])
    return dict(model, branches=branches)


def _branch(teacher, student, size):
    """The config of a teacher, and of the neck that meets it."""
    # a cls token is learnt where both have as many
    tokens = {} if student.facts.cls == teacher.facts.cls else dict(
        tokens='map')
    # both sides meet on the coarser grid; convolutional networks whose patches
    # do not cover the image may have one row more or less
    fine, coarse = sorted((student.facts, teacher.facts),
                          key=lambda facts: facts.patch)
    covered = not any(side % coarse.patch for side in size)
    if fine.patch != coarse.patch or not covered:
        tokens['grid'] = coarse.grid(size)

    return dict(
        teacher=dict(
            type='mmfd.Teacher',
            **_file(teacher),
            normalize=teacher.facts.statistics(),
            backbone=teacher.backbone,
            neck=dict(type='mmfd.WhiteningNeck', **tokens)),
        neck=dict(
            in_channels=student.facts.width,
            out_channels=teacher.facts.width,
            **tokens))


def _started(network):
    """The config of a network that starts from its file, if one is named."""
    if not network.checkpoint:
        return network.backbone
    return dict(
        network.backbone, init_cfg=dict(type='Pretrained', **_file(network)))


def _file(network):
    """Where a network's weights are, and below which prefix if any."""
    file = dict(checkpoint=os.path.abspath(network.weights()))
    prefix = network.prefix()
    return dict(file, prefix=prefix) if prefix else file
