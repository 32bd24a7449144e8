"""A detector of some classes begins a detector of others: rows by name."""
import torch
from mmengine.hooks import Hook

from mmfd.errors import Refused
from mmfd.hosts import log, openmmlab
from mmfd.registry import HOOKS
from mmfd.weights.weight_files import first_few


@HOOKS.register_module()
class ClassesByNameHook(Hook):
    """Carries the rows of classes from `load_from` to those of the same name.

    Where all weights fit as they are, nothing happens. Otherwise classes that
    the checkpoint, which names its own, has not begin at 0, and those that
    only the checkpoint has are dropped; the log says so.

    Args:
        same (dict): name of a class of the training images -> its name in the
            checkpoint, where they differ by more than capitals.

    Raises:
        Refused: if the checkpoint names no classes, or none of its classes
            has a name that is wanted.
    """

    def __init__(self, same=None):
        self.same = same or {}

    def after_load_checkpoint(self, runner, checkpoint):
        model = openmmlab.unwrapped(runner.model)
        shapes = {name: p.shape for name, p in model.named_parameters()}
        weights = checkpoint.get('state_dict', checkpoint)
        if all(weights[name].shape == shape for name, shape in shapes.items()
               if name in weights):
            return
        wanted = runner.train_dataloader.dataset.metainfo['classes']
        meta = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
        given = meta.get('classes')
        if not given:
            raise Refused(
                'load_from has heads of other sizes and does not name its '
                'classes: give a checkpoint that training wrote, or the '
                'backbone alone by init_cfg')
        counterparts = match(given, wanted, self.same)
        weights.update(carry(weights, shapes, len(given), counterparts))
        new = [n for n, i in zip(wanted, counterparts) if i is None]
        dropped = [
            name for i, name in enumerate(given) if i not in counterparts
        ]
        log.info(
            f'load_from: {len(wanted) - len(new)} of its {len(given)} classes '
            f'are carried over by name; dropped: {len(dropped)}' +
            (f' ({first_few(dropped)})' if dropped else '') +
            (f'; begin at 0: {first_few(new)}' if new else ''))


def match(given, wanted, same=None):
    """For each name that is wanted, the place of its counterpart, or None.

    Args:
        given, wanted (Sequence[str]): names; capitals do not count.
        same (dict): wanted name -> name in `given`.

    Raises:
        Refused: if no name has a counterpart.
    """
    same = same or {}
    places = {name.strip().lower(): i for i, name in enumerate(given)}
    found = [
        places.get(same.get(name, name).strip().lower()) for name in wanted
    ]
    if not any(place is not None for place in found):
        raise Refused(
            f'load_from has the classes {first_few(given)}, the training '
            f'images {first_few(wanted)}, and no name is in both: give '
            'pairs of names in `same` of mmfd.ClassesByNameHook, or the '
            'backbone alone by init_cfg')
    return found


def carry(weights, shapes, count, counterparts):
    """Weights of a detector of other classes.

    A weight is one of classes where its first size is that of the classes in
    the file and in the model alike: one row for each class, with or without
    one for the background, or four. They come first, the background is last,
    as in mmdet. Its other sizes must agree.

    Args:
        weights (dict): of the file.
        shapes (dict): name -> shape of the model's parameter.
        count (int): classes of the file.
        counterparts (list[int | None]): as of `match`.

    Returns:
        dict: these weights, in the model's shapes.
    """
    carried = {}
    for name, shape in shapes.items():
        value = weights.get(name)
        if value is None or value.shape == shape or (value.shape[1:]
                                                     != shape[1:]):
            continue
        for rows, background in (1, 0), (1, 1), (4, 0):
            if (len(value),
                    shape[0]) == (rows * count + background,
                                  rows * len(counterparts) + background):
                # row of the file for each of the model's; the last is of 0s
                sources = [
                    len(value) if place is None else rows * place + row
                    for place in counterparts for row in range(rows)
                ] + [len(value) - 1] * background
                padded = torch.cat([value, torch.zeros_like(value[:1])])
                carried[name] = padded[sources]
    return carried
