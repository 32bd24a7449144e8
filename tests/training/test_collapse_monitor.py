"""Planted faults are named, and a healthy run is left alone."""
import logging
import re

import pytest
import torch
import torch.nn.functional as F
from helpers.models import clip_teacher, dino_teacher, distillation, student
from helpers.runs import lines
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmfd.hosts.openmmlab import set_checkpoint_loader
from mmfd.training.collapse_monitor import explained
from mmfd.training.lr_schedule import WarmupCosineHook
from mmfd.weights import checkpoints
from mmfd.weights.mmengine_reader import load_for_mmengine

PIPELINE = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=32, backend='pillow'),
    dict(type='mmpretrain.PackInputs'),
]


def train(folder,
          root,
          model,
          iterations=30,
          lr=2e-3,
          hooks=(),
          log_interval=10,
          **kwargs):
    """The Runner of a short distillation, and the hook's warnings."""
    loader = dict(
        batch_size=4,
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='mmfd.ImageFolder',
            data_root=str(root / 'imagenet'),
            split='train',
            pipeline=PIPELINE))
    held_out = dict(loader, dataset=dict(loader['dataset'], split='val'))
    cfg = Config(
        dict(
            dict(
                model=model,
                work_dir=str(folder),
                train_dataloader=loader,
                train_cfg=dict(
                    type='IterBasedTrainLoop',
                    max_iters=iterations,
                    val_interval=1000),
                val_dataloader=held_out,
                val_cfg=dict(),
                val_evaluator=[dict(type='mmfd.HeldOutLoss')],
                optim_wrapper=dict(optimizer=dict(type='AdamW', lr=lr)),
                default_hooks=dict(
                    logger=dict(type='LoggerHook', interval=log_interval),
                    checkpoint=dict(
                        type='CheckpointHook', by_epoch=False, interval=50)),
                log_processor=dict(by_epoch=False),
                custom_hooks=[
                    dict(type='mmfd.CollapseMonitorHook', interval=10)
                ],
                default_scope='mmpretrain',
                visualizer=None,
                experiment_name=folder.name,
                randomness=dict(seed=0)), **kwargs))
    set_checkpoint_loader(load_for_mmengine)  # as the tools do, to resume
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    messages = []

    class Listen(logging.Handler):

        def emit(self, record):
            messages.append(record.getMessage())

    runner.logger.addHandler(Listen())
    runner.train()
    return runner, [
        line for line in messages if line.startswith('CollapseMonitorHook: ')
    ]


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """A distillation whose teacher has a file of kind `dino`."""
    torch.manual_seed(0)
    teacher = MODELS.build(dino_teacher())
    file = tmp_path_factory.mktemp('teacher') / 'dino.pth'
    checkpoints.save(teacher.backbone.state_dict(), file, dict(kind='dino'))
    return distillation(dino_teacher(file))


class PlantFault(Hook):
    """Change the model before the hook looks at it."""
    priority = 'VERY_HIGH'

    def __init__(self, fault, at):
        self.fault, self.at = fault, at

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter + 1 >= self.at:
            self.fault(runner.model)


@torch.no_grad()
def zero_projection(model):
    for parameter in model.neck.parameters():
        parameter.zero_()


@torch.no_grad()
def replace_teacher(model):
    for parameter in model.teacher.backbone.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.05)


def test_healthy_run_gives_no_warning_and_logs_what_it_learns(
        model, tmp_path, shapes_root):
    runner, warnings = train(tmp_path, shapes_root, model)
    assert warnings == []
    *looks, = filter(lambda line: 'explained' in line, lines(tmp_path))
    assert [look['step'] for look in looks] == [0, 10, 20, 30]
    assert looks[-1]['explained'] > looks[0]['explained']
    assert looks[-1]['cosine'] > looks[0]['cosine'] + 0.1
    assert looks[-1]['dead_channels'] == 0
    assert len({round(look['teacher'], 4) for look in looks}) == 1
    text = next(tmp_path.glob('*/*.log')).read_text()
    assert re.search(
        r'8 held-out images after iteration 30: .*cosine: 0.*'
        'explained: 0', text)


def test_mean_of_each_position_explains_nothing():
    """Though most of the variance of this target is between positions."""
    positions = torch.randn(16, 32)
    target = positions + 0.5 * torch.randn(8, 16, 32)
    loss = F.mse_loss(positions.expand_as(target), target)
    assert loss < 0.3 * F.mse_loss(torch.zeros_like(target), target)
    assert abs(explained(positions.expand_as(target), target)) < 0.05
    assert explained(target, target) == 1
    assert explained((positions + target) / 2, target) == pytest.approx(
        0.75, abs=0.02)


def test_numbers_stand_only_where_they_were_measured(model, tmp_path,
                                                     shapes_root):
    """Looks every 10 iterations, lines of the log every 4."""
    train(tmp_path, shapes_root, model, 20, log_interval=4)
    steps = {True: [], False: []}
    for line in lines(tmp_path):
        steps['explained' in line].append(line['step'])
    assert steps[True] == [0, 10, 20]
    assert steps[False][:5] == [4, 8, 12, 16, 20]


def test_wrong_channel_order_is_named(model, tmp_path, shapes_root):
    wrong = dict(
        model,
        data_preprocessor=dict(
            type='mmfd.PixelPreprocessor', bgr_to_rgb=False))
    _, (warning, ) = train(tmp_path, shapes_root, wrong, 1)
    assert 'wrong order (BGR): set model.data_preprocessor.bgr' in warning


CLIP = clip_teacher().normalize
WRONG = dict(
    scale=(dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224,
                                                 0.225]), 'are of RGB 0-255'),
    turned=(dict(mean=[103.53, 116.28, 123.675],
                 std=[57.375, 57.12, 58.395]), 'its mean is in the order BGR'),
    clip=(dict(mean=CLIP.mean, std=CLIP.std),
          'with the statistics of ImageNet, and gets those of CLIP'))


@pytest.mark.parametrize('name', WRONG)
def test_wrong_statistics_are_named(model, tmp_path, shapes_root, name):
    normalize, expected = WRONG[name]
    teacher = dict(
        model['teacher'], normalize=dict(type='mmfd.Normalize', **normalize))
    _, warnings = train(tmp_path, shapes_root, dict(model, teacher=teacher), 1)
    assert expected in ' '.join(warnings)
    assert all('teacher' in warning for warning in warnings)


def test_zeroed_projection_is_named(model, tmp_path, shapes_root):
    _, (warning, ) = train(
        tmp_path, shapes_root, model, hooks=[PlantFault(zero_projection, 15)])
    assert 'the projection (model.neck) gives the same' in warning


def test_exploding_lr_is_named(model, tmp_path, shapes_root):
    _, warnings = train(tmp_path, shapes_root, model, lr=30.)
    assert any('the run has diverged: the held-out loss is' in warning
               and 'Lower optim_wrapper.optimizer.lr' in warning
               for warning in warnings)


def test_teacher_replaced_during_the_run_is_named(model, tmp_path,
                                                  shapes_root):
    _, warnings = train(
        tmp_path, shapes_root, model, hooks=[PlantFault(replace_teacher, 15)])
    assert 'not the one that it was before training' in warnings[0]


def test_teacher_replaced_between_runs_is_named(model, tmp_path, shapes_root):
    train(tmp_path, shapes_root, model, 10)
    file = tmp_path / 'iter_10.pth'  # the last one is always saved
    resumed = dict(resume=True, load_from=str(file))
    _, same = train(tmp_path, shapes_root, model, 20, **resumed)
    assert same == []
    other = dict(model, teacher=dino_teacher(model['teacher']['checkpoint']))
    weights = checkpoints.load(model['teacher']['checkpoint'])['state_dict']
    weights['ln1.weight'] = weights['ln1.weight'] + torch.randn(128)
    checkpoints.save(weights, tmp_path / 'other.pth', dict(kind='dino'))
    other['teacher']['checkpoint'] = str(tmp_path / 'other.pth')
    _, (warning, ) = train(tmp_path, shapes_root, other, 20, **resumed)
    assert 'not the one that it was before it was resumed' in warning


def test_collapsed_student_is_named(model, tmp_path, shapes_root):

    @torch.no_grad()
    def collapse(model):
        model.backbone.ln1.weight.zero_()

    _, warnings = train(
        tmp_path, shapes_root, model, hooks=[PlantFault(collapse, 5)])
    assert any('the student has collapsed: 100%' in w for w in warnings)


def test_run_that_learns_nothing_is_named(model, tmp_path, shapes_root):
    runner, (warning, ) = train(tmp_path, shapes_root, model, lr=0.)
    assert 'after 30 iterations, the warm-up over' in warning
    assert 'no better than the mean of each position' in warning
    hub = runner.message_hub
    explained, loss, mean, positions = (
        hub.get_scalar(f'val/held_out/{name}').current()
        for name in ('explained', 'loss', 'loss_of_mean', 'loss_of_positions'))
    assert explained < 0 and loss > mean > positions > 0


def test_without_evaluations_the_few_images_tell(model, tmp_path, shapes_root):
    nothing = dict(val_dataloader=None, val_cfg=None, val_evaluator=None)
    _, (warning, ) = train(tmp_path, shapes_root, model, lr=0., **nothing)
    assert 'after 10 iterations, the warm-up over' in warning


def test_nothing_has_to_be_learnt_during_warm_up(model, tmp_path, shapes_root):
    slow = WarmupCosineHook(warmup_epochs=100, warmup_lr=0., min_lr=0.)
    _, warnings = train(tmp_path, shapes_root, model, hooks=[slow], lr=0.)
    assert warnings == []


def test_model_without_teacher_is_refused(tmp_path, shapes_root):
    model = dict(
        type='mmpretrain.ImageClassifier', backbone=student(), head=None)
    with pytest.raises(ValueError, match='this model has no teacher'):
        train(tmp_path, shapes_root, model, 1)
