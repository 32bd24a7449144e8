"""Fine-tune a student into a classifier of one's own classes."""
import os
import shlex

from mmfd.errors import Refused
from mmfd.hosts import log
from mmfd.networks.library_network import LibraryNetwork
from mmfd.recipes import amounts, images, runs
from mmfd.recipes.classifier import FILE, load_classifier, save_classifier
from mmfd.recipes.config_text import code, config_text
from mmfd.recipes.student import load_student, student_file
from mmfd.training.last_checkpoint import last_valid_checkpoint

# Networks whose configs say how a classifier is made of them: type -> what
# the leaves in `configs/classification/` change in the backbone, the neck and
# the layer decay
POOLED = dict(final_norm=False, out_type='avg_featmap')
TASKS = {
    'mmfd.StudentViT':
    dict(backbone=POOLED, neck=None, layer_decay=0.6),
    'mmfd.StudentSwin':
    dict(
        backbone={},
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        layer_decay=0.8),
}
# Each block trains its own copy of the bias that all shared
OWN_BIAS = dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False)


def finetune(student,
             data,
             out=None,
             epochs=None,
             batch_size=None,
             lr=None,
             amp=None,
             resume=False,
             dry_run=False,
             verbose=False):
    """Train a student, with a linear layer on it, on images with classes.

    What is left out is chosen for the images at hand. The config of the run
    is written to `recipe/` in its folder, the classifier to
    `classifier.safetensors`.

    Args:
        student (str): file or folder, as `load_student` takes it.
        data (str | list[str]): folders, in them `train/CLASS/...` and
            `val/CLASS/...`, or `CLASS/...`.
        out, epochs, batch_size, lr, amp, resume, dry_run, verbose: as
            of `distill`.

    Returns:
        Classifier: ready to be used; None after a dry run.

    Raises:
        Refused: if there is no such student, or no image with a class, or
            another run in `out`.
    """
    runs.begin(verbose)
    recipe = plan(student, data, out, epochs, batch_size, lr, amp)
    if dry_run:
        return runs.dry_run(recipe, verbose)
    cfg = runs.train(recipe, resume, verbose).cfg
    file = os.path.join(recipe.out, FILE)
    save_classifier(
        last_valid_checkpoint(recipe.out), cfg.model, cfg.size, file)
    log.info(f'the classifier is {file}; what is on images is said by\n'
             f'  mmfd predict --model {shlex.quote(file)} IMAGES')
    return load_classifier(recipe.out)


def plan(student, data, out, epochs, batch_size, lr, amp):
    """The `runs.Recipe` of a fine-tuning; arguments as of `finetune`."""
    data = images.absolute(data)
    command = runs.command('finetune', **locals())
    file = student_file(student)
    name = f'classifier_of_{file.parent.name or file.stem}'
    out = os.path.abspath(out or os.path.join('work_dirs', name))
    found = images.look_at(data, with_label=True)
    if len(found.classes) < 2:
        raise Refused(f'all images of {", ".join(data)} are of the class '
                      f'{found.classes[0]}: give a folder with folders of two '
                      'classes or more')
    student = load_student(file)
    size = student.facts.img_size
    chosen = amounts.choose(amounts.FINE_TUNING, found.train,
                            student.facts.width, epochs, batch_size, lr, amp)
    model, decay = _model(student, file, len(found.classes))
    settings = f'''
size = {size}  # (H, W) of the crops, and in evaluation
model = {code(model)}
{images.loaders(found, data, size, chosen.batch_size)}
{chosen.settings(decay)}
work_dir = {out!r}
'''
    text = config_text(
        f'A classifier of {len(found.classes)} classes from '
        f'{student.facts.name}.', command, chosen.why,
        '_base_/by_name/classifier.py', settings)
    return runs.Recipe(name, text, chosen.why, out)


def _model(student, file, classes):
    """The config of a classifier but for what all have, and layer decay."""
    facts, config = student.facts, dict(student.config)
    by_name = isinstance(student.backbone, LibraryNetwork)
    others = dict(
        backbone={},
        neck=dict(
            type='mmfd.MapMeanNeck', channels=facts.width, before=facts.cls),
        layer_decay=0.8 if by_name else 1.)
    task = TASKS.get(config['type'], others)
    config.update(task['backbone'])
    if config.get('use_shared_rel_pos_bias'):
        config.update(OWN_BIAS)
    start = dict(type='Pretrained', checkpoint=os.path.abspath(file))
    if student.prefix:
        start['prefix'] = student.prefix
    return dict(
        data_preprocessor=dict(
            mean=[*facts.mean], std=[*facts.std], num_classes=classes),
        backbone=dict(config, init_cfg=start),
        neck=task['neck'],
        head=dict(num_classes=classes,
                  in_channels=facts.width)), task['layer_decay']
