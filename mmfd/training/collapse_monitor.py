"""Does a distillation do what it should? A few held-out images tell."""
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmfd.data.image_folder import LoadImage
from mmfd.errors import Refused
from mmfd.registry import HOOKS
from mmfd.weights import checkpoints

STATISTICS = dict(  # mean and std of RGB 0-255
    ImageNet=((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    CLIP=((122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321375,
                                                     70.32316305)))
TRAINED_IN = {  # kind of a converted file -> what its networks were trained in
    **dict.fromkeys(('openai-clip', 'open-clip', 'hf-clip'), 'CLIP'),
    **dict.fromkeys(('dino', 'deit', 'mae', 'esvit', 'swin', 'swinv2'),
                    'ImageNet'),
}


@HOOKS.register_module()
class CollapseMonitorHook(Hook):
    """Judge a distillation by the same few images again and again.

    Before training and every `interval` iterations it logs `student_std`, the
    mean deviation of a channel of the student between tokens;
    `dead_channels`, the share of those that do not deviate; `cosine` of
    prediction and target; `explained`, the share of the target's variance
    that the prediction explains; and `teacher`, a number that stays the same
    as long as the teacher does, in a resumed run too. Each thing that looks
    wrong is one warning that says what to turn, repeated only when it comes
    back.

    Args:
        interval (int): in iterations.
        images (int): how many, of those held out; of the training images
            where none are.
    """

    def __init__(self, interval=500, images=8):
        self.interval, self.images = interval, images
        self.first = None  # what was seen before training
        self.before = None  # of a run that is resumed
        self.told = set()

    def before_train(self, runner):
        if 'teacher' not in runner.cfg.model:
            raise Refused(
                'mmfd.CollapseMonitorHook judges distillations: take it out '
                'of custom_hooks, this model has no teacher')
        loop = runner.val_loop or runner.train_loop
        data, count = loop.dataloader.dataset, self.images
        samples = [data[i * len(data) // count] for i in range(count)]
        self.batch = {key: [s[key] for s in samples] for key in samples[0]}
        self.first = look(runner.model, self.batch)
        model, samples = unwrapped(runner.model), self.batch['data_samples']
        self._warn(runner, [
            *wrong_order(self.first['pixels'], samples), *wrong_statistics(
                'model.normalize', model.normalize, self.first['pixels']),
            *wrong_statistics('model.teacher.normalize',
                              model.teacher.normalize, self.first['pixels']),
            *not_those_of_the_file(runner.cfg.model.teacher)
        ])
        self._judge(runner, self.first)

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        if self.every_n_train_iters(runner, self.interval):
            self._judge(runner, look(runner.model, self.batch))

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['meta']['verdict'] = {
            name: self.first[name].tolist()
            for name in ('seen', 'teacher')
        }

    def after_load_checkpoint(self, runner, checkpoint):
        if runner.cfg.get('resume'):
            self.before = checkpoint.get('meta', {}).get('verdict')

    def _judge(self, runner, now):
        for name in ('student_std', 'dead_channels', 'cosine', 'explained'):
            runner.message_hub.update_scalar(f'train/{name}', now[name])
        runner.message_hub.update_scalar('train/teacher',
                                         now['teacher'].mean().item())
        faults = {
            **dict(replaced(now, self.first, 'before training')),
            **dict(unlearnt(now, self.first))
        }
        if self.before:
            before = {k: torch.tensor(v) for k, v in self.before.items()}
            faults.update(replaced(now, before, 'before it was resumed'))
        self._warn(
            runner,
            [(name, sentence)
             for name, sentence in faults.items() if name not in self.told])
        self.told = {*faults}

    def _warn(self, runner, faults):
        if is_main_process():
            for _, sentence in faults:
                runner.logger.warning(f'verdict: {sentence}')


def unwrapped(model):
    return model.module if is_model_wrapper(model) else model


@contextmanager
def _heard(modules):
    """What modules were given and gave, by name, when they last ran."""
    heard = {}
    handles = [
        module.register_forward_hook(lambda module, args, out, name=name: heard
                                     .update({name: (args[0], out)}))
        for name, module in modules.items()
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def look(model, batch):
    """What a distillation makes of a batch that preprocessors take."""
    inner = unwrapped(model)
    training = model.training
    model.eval()
    with _heard(
            dict(
                teacher=inner.teacher,
                backbone=inner.backbone,
                neck=inner.neck)) as heard:
        samples = model.val_step(batch)
    model.train(training)
    pixels, target = heard['teacher']
    pred, tokens = heard['neck'][1].float(), heard['backbone'][1][-1].float()
    if tokens.ndim == 4:
        tokens = tokens.flatten(2).transpose(1, 2)
    std = tokens.flatten(0, 1).std(0)
    scale = tokens.square().mean().sqrt()
    centred = target - target.flatten(0, 1).mean(0)
    ramp = torch.linspace(-1, 1, target[0].numel(), device=target.device)
    return dict(
        pixels=pixels,
        seen=pixels.mean((1, 2, 3)).cpu(),
        teacher=(target.flatten(1).float() @ ramp).cpu(),
        loss=torch.stack([s.loss for s in samples]).mean().item(),
        student_std=std.mean().item(),
        dead_channels=(std <= 1e-3 * scale).float().mean().item(),
        pred_std=pred.flatten(0, 1).std(0).mean().item(),
        target_std=target.flatten(0, 1).std(0).mean().item(),
        target_scale=target.square().mean().sqrt().item(),
        cosine=F.cosine_similarity(pred, target, dim=-1).mean().item(),
        explained=1 -
        ((pred - target).square().sum() / centred.square().sum()).item())


def wrong_order(pixels, samples):
    """Compare red minus blue of what the model sees with that of the files."""
    if any('img_path' not in sample for sample in samples):
        return
    files = [LoadImage()(dict(img_path=s.img_path))['img'] for s in samples]
    blue, _, red = torch.tensor([f.mean((0, 1)) for f in files]).mT
    seen = pixels.mean((2, 3)).cpu()
    if (red - blue) @ (seen[:, 0] - seen[:, 2]).double() < 0:
        yield 'order', (
            'the networks see blue where their images are red, the channels '
            'are in wrong order (BGR): set '
            'model.data_preprocessor.bgr_to_rgb=True, or False if the '
            'pipeline loads RGB')


def wrong_statistics(where, normalize, pixels):
    """Pixels in the right statistics are about 0 and deviate by about 1."""
    shown = normalize(pixels).transpose(0, 1).flatten(1)
    mean, std = shown.mean(1), shown.std(1)
    if mean.abs().max() > 3 or std.max() > 3 or std.min() < 0.05:
        yield where, (
            f'{where}: normalised pixels have mean {listed(mean)} and '
            f'deviation {listed(std)} where about 0 and 1 are expected; its '
            'mean and std are of RGB 0-255')
    elif told(normalize.mean.flip(1)) and not told(normalize.mean):
        yield where, f'{where}: its mean is in the order BGR, turn it round'


def told(mean):
    """The name of known statistics with about this mean, or None."""
    for name, (known, _) in STATISTICS.items():
        if (mean.flatten().cpu() - torch.tensor(known)).abs().max() < 0.6:
            return name


def not_those_of_the_file(teacher):
    """A converted file says what its network was trained in."""
    if teacher.checkpoint == checkpoints.RANDOM:
        return
    kind = checkpoints.meta(teacher.checkpoint).get('kind')
    expected = TRAINED_IN.get(kind)
    given = told(torch.tensor(teacher.normalize.mean))
    if expected and given != expected:
        yield 'statistics of the file', (
            f'the teacher comes from a file of kind {kind}, trained in the '
            f"statistics of {expected}, and sees "
            f"{'those of ' + given if given else 'others'}: set "
            f'model.teacher.normalize to mean={[*STATISTICS[expected][0]]}, '
            f'std={[*STATISTICS[expected][1]]}')


def replaced(now, first, when):
    """A teacher that never trains gives the same for the same pixels."""
    if now['seen'].shape != first['seen'].shape or not torch.allclose(
            now['seen'], first['seen'], rtol=1e-3):
        return  # of other images
    change = (now['teacher'] - first['teacher']).norm()
    if not change <= 1e-2 * first['teacher'].norm():
        yield f'teacher {when}', (
            f'the teacher is not the one that it was {when}: on the same '
            'images its target differs. Something loads or changes weights '
            'of model.teacher')


def unlearnt(now, first):
    """What is wrong with what the student has learnt."""
    loss, start = now['loss'], first['loss']
    if not loss <= 2 * start:  # nan too
        yield 'diverged', (
            f'the run has diverged: the held-out loss is {loss:.4g} and was '
            f'{start:.4g} before training. Lower '
            'optim_wrapper.optimizer.lr, or lengthen the warm-up')
    if now['target_std'] < 0.02 * now['target_scale']:
        yield 'target', (
            'the target is the same for all tokens: the teacher has '
            'collapsed, look at model.teacher.checkpoint and its normalize')
    if now['dead_channels'] > 0.5:
        yield 'collapsed', (
            f'the student has collapsed: {now["dead_channels"]:.0%} of its '
            'channels are the same for all tokens. Start anew with a lower '
            'optim_wrapper.optimizer.lr')
    elif now['pred_std'] < 0.02 * now['target_std']:
        yield 'projection', (
            'the projection (model.neck) gives the same for all tokens, '
            f'though those of the student differ (by {now["student_std"]:.3g} '
            'in a channel): its weights are zero or too small. Look at what '
            'draws or loads them')


def listed(values):
    return ', '.join(f'{value:.3g}' for value in values.tolist())
