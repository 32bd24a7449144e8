"""What is wrong with a distillation, told from a few images.

Functions yield (name of a fault, sentence with what to change).
"""
import numpy as np
import torch

from mmfd.data.transforms import LoadImage
from mmfd.registry import place_of
from mmfd.weights import checkpoints, weight_files
from mmfd.weights.provenance import STATISTICS, TRAINED_WITH

LEARNING = 'learning'  # name of the fault that nothing is learnt


def wrong_channel_order(pixels, samples):
    """Compare red - blue of the pixels with red - blue of the image files."""
    if any('img_path' not in sample for sample in samples):
        return
    files = [LoadImage()(dict(img_path=s.img_path))['img'] for s in samples]
    means = np.stack([file.mean((0, 1)) for file in files])
    blue, _, red = torch.from_numpy(means).mT
    seen = pixels.mean((2, 3)).cpu()
    if (red - blue) @ (seen[:, 0] - seen[:, 2]).double() < 0:
        yield 'order', (
            'the networks see blue where the images are red, so the channels '
            'are in the wrong order (BGR): set '
            'model.data_preprocessor.bgr_to_rgb=True, or False if the '
            'pipeline loads RGB')


def wrong_statistics(where, normalize, pixels):
    """Normalised pixels have a mean of about 0 and a std of about 1."""
    values = normalize(pixels).transpose(0, 1).flatten(1)  # (3, B * H * W)
    mean, std = values.mean(1), values.std(1)
    if mean.abs().max() > 3 or std.max() > 3 or std.min() < 0.05:
        yield where, (
            f'{where}: normalised pixels have mean {_rounded(mean)} and std '
            f'{_rounded(std)}, where about 0 and 1 are expected; its mean and '
            'std are of RGB 0-255')
    elif known_statistics(
            normalize.mean.flip(1)) and not known_statistics(normalize.mean):
        yield where, (
            f'{where}: its mean is in the order BGR, reverse mean and std')


def known_statistics(mean):
    """The name of the statistics with about this mean (3, ), or None."""
    for name, (known, _) in STATISTICS.items():
        if (mean.flatten().cpu() - torch.tensor(known)).abs().max() < 0.6:
            return name


def other_statistics_than_trained_with(where, teacher):
    """A converted file says which statistics its network was trained with.

    Args:
        where (str): the teacher's place in the config.
        teacher (dict): its config.
    """
    if (teacher.checkpoint == weight_files.RANDOM
            or not teacher.get('normalize')):  # of the network's own facts
        return
    kind = checkpoints.meta(teacher.checkpoint).get('kind')
    expected = TRAINED_WITH.get(kind)
    given = known_statistics(torch.tensor(teacher.normalize.mean))
    if expected and given != expected:
        mean, std = STATISTICS[expected]
        yield f'statistics of the file of {where}', (
            f'the teacher is from a file of kind {kind}, trained with the '
            f'statistics of {expected}, and gets '
            f"{'those of ' + given if given else 'other ones'}: set "
            f'{where}.normalize to mean={[*mean]}, std={[*std]}')


def changed_teacher(now, first, when):
    """A frozen teacher gives the same target for the same pixels."""
    if now['seen'].shape != first['seen'].shape or not torch.allclose(
            now['seen'], first['seen'], rtol=1e-3):
        return  # the images are other ones
    same = now['teacher'].shape == first['teacher'].shape and (
        (now['teacher'] - first['teacher']).norm()
        <= 1e-2 * first['teacher'].norm())
    if not same:
        yield f'teacher {when}', (
            f'the teacher is not the one that it was {when}: it gives another '
            'target for the same images. Something loads or changes the '
            'weights of a teacher')


def training_faults(now, start):
    """Divergence, and outputs that are the same for all tokens.

    Args:
        now (dict): as `measure` returns it.
        start (float): the loss before training.
    """
    loss = now['loss']
    if not loss <= 2 * start:  # NaN too
        yield 'diverged', (
            f'the run has diverged: the held-out loss is {loss:.4g} and was '
            f'{start:.4g} before training. Lower '
            'optim_wrapper.optimizer.lr, or lengthen the warm-up')
    collapsed = now['dead_channels'] > 0.5
    if collapsed:
        yield 'collapsed', (
            f'the student has collapsed: {now["dead_channels"]:.0%} of its '
            'channels are the same for all tokens. Start again with a lower '
            'optim_wrapper.optimizer.lr')
    for name, side in now['branches'].items():
        where = place_of(name)
        if side['target_std'] < 0.02 * side['target_scale']:
            yield f'target {name}'.strip(), (
                'the target is the same for all tokens: the teacher has '
                f'collapsed, look at {where}.teacher.checkpoint and its '
                'normalize')
        if not collapsed and side['pred_std'] < 0.02 * side['target_std']:
            yield f'projection {name}'.strip(), (
                f'the projection ({where}.neck) gives the same for all '
                'tokens, though the tokens of the student differ (by '
                f'{now["student_std"]:.3g} in a channel): its weights are '
                'zero or too small. Look at what initialises or loads them')


def not_learning(explained, iteration):
    """What needs no image, the mean of each position, is the least to learn.

    Args:
        explained (float): of held-out images, at most 0.
        iteration (int): how many there were.
    """
    yield LEARNING, (
        f'after {iteration:,} iterations, the warm-up over, the student '
        'predicts the target no better than the mean of each position would, '
        f'which needs no image (explained: {explained:.3f}, which is to rise '
        'above 0): it has learnt nothing of what is in the images. Raise '
        'optim_wrapper.optimizer.lr if the loss hardly falls, lower it if it '
        "jumps; look at the teacher's checkpoint and at the images")


def _rounded(values):
    return ', '.join(f'{value:.3g}' for value in values.tolist())
