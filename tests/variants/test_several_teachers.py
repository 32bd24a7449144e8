"""Several teachers: each one's part of the loss, and how they are weighed."""
import os
import re

import pytest
import torch
import torch.nn.functional as F
from helpers import runs
from helpers.models import (branch, build_random, clip_teacher, dino_teacher,
                            distillation, pixels, several, student)
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

import mmfd
from mmfd.errors import Refused
from mmfd.launch.config_options import read_config
from mmfd.planning.count import count_step, target_shapes
from mmfd.training.metrics import HeldOutLoss
from mmfd.variants.balance import Meeting
from mmfd.weights import provenance


def renamed(fd):
    """Weights of FD by the names that they have in a branch."""
    return {
        name if name.startswith('backbone.') else f'branches.clip.{name}':
        value
        for name, value in fd.items()
    }


def test_one_teacher_gives_the_numbers_of_fd():
    torch.manual_seed(0)
    fd = MODELS.build(
        distillation(backbone=student(drop_path_rate=0.2))).train()
    ours = MODELS.build(several(clip=branch(clip_teacher()))).train()
    ours.branches['clip'].teacher = fd.teacher
    ours.load_state_dict(renamed(fd.state_dict()))
    x = pixels(8)
    torch.manual_seed(1)
    fd.loss(x)['loss'].backward()
    torch.manual_seed(1)
    ours.loss(x)['loss_clip'].backward()
    expected = renamed({n: p.grad for n, p in fd.named_parameters()})
    assert expected.keys() == dict(ours.named_parameters()).keys()
    for name, param in ours.named_parameters():
        assert torch.equal(param.grad, expected[name]), name


def test_loss_is_the_weighted_sum_of_those_of_each_teacher_alone():
    model = build_random(
        several(
            clip=branch(clip_teacher(), weight=0.5),
            dino=branch(dino_teacher(), weight=2.)))
    x = pixels(4)
    losses = model.loss(x)
    feats = model.extract_feat(x)
    for name, weight in ('clip', 0.5), ('dino', 2.):
        alone = model.branches[name]
        expected = weight * F.smooth_l1_loss(
            alone.neck(feats), alone.teacher(x), beta=2.0)
        torch.testing.assert_close(losses[f'loss_{name}'], expected)
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(losses.values()))


COSINE = dict(type='mmfd.CosineLoss')
SMOOTH_L1 = dict(type='torch.nn.SmoothL1Loss')
THEIA = dict(
    direction=dict(weight=0.9, loss=dict(COSINE, of='image')),
    scale=dict(weight=0.1, loss=SMOOTH_L1))
UNIC = {
    f'{tokens}_{name}': dict(tokens=tokens, weight=0.25, loss=loss)
    for tokens in ('cls', 'patches')
    for name, loss in dict(direction=COSINE, scale=SMOOTH_L1).items()
}


@pytest.mark.parametrize('terms, weight, balance, theirs', [
    (THEIA, 1 / 2, None, 0.9911121726),
    (UNIC, 1., dict(type='mmfd.TeacherDropping', prob=0.), 0.8841572404),
    (UNIC, 1., dict(type='mmfd.TeacherDropping', prob=1.), 1.0150674582),
])
def test_loss_of_two_teachers_is_that_of_the_authors_code(
        terms, weight, balance, theirs):
    """What it gave, once, in fp32 for these tokens.

    - Theia (bdaiinstitute/theia, 59d0448): 0.9 of `cos_loss` and 0.1 of
      `l1_loss` of `RobotVisionFM.get_loss`.
    - UNIC (naver/unic, 02269db): `unic_loss` with `t_drop_prob` 0 and 1.
    """

    def tokens(count):
        generator = torch.Generator().manual_seed(count)
        return torch.randn(2, count, 12, generator=generator)

    parts = branch(clip_teacher(), weight=weight)
    parts['head']['loss'] = dict(type='mmfd.SumOfLosses', terms=terms)
    model = MODELS.build(several(balance, a=parts, b=parts))
    losses = model.balance(
        dict(
            a=Meeting(tokens(5),
                      tokens(6)[:, :5], model.branches['a']),
            b=Meeting(tokens(7),
                      tokens(8)[:, :7], model.branches['b'])), None)
    assert sum(losses.values()).item() == pytest.approx(theirs, abs=1e-6)


def test_checkpoint_has_the_student_and_no_teacher():
    model = MODELS.build(several())
    assert {name.split('.')[0]
            for name in model.state_dict()} == {'backbone', 'branches'}
    assert not any('teacher' in name for name, _ in model.named_parameters())
    assert {name
            for name in model.state_dict() if 'branches' in name} == {
                f'branches.{name}.neck.projection.{part}'
                for name in ('clip', 'dino')
                for part in ('weight', 'bias')
            }


def gradients(model, losses, feats):
    return [
        torch.autograd.grad(loss, feats[-1], retain_graph=True)[0]
        for loss in losses.values()
    ]


def meetings(model, x):
    feats = model.extract_feat(x)
    return {
        name: Meeting(branch.neck(feats), branch.teacher(x), branch)
        for name, branch in model.branches.items()
    }, feats


def test_balanced_teachers_pull_at_the_features_as_their_weights_say():
    model = build_random(
        several(
            dict(type='mmfd.BalancedGradients'),
            clip=branch(clip_teacher(), weight=3.),
            dino=branch(dino_teacher())))
    model.branches['dino'].neck.projection.weight.data *= 10
    found, feats = meetings(model, pixels(4))
    plain = gradients(model, {n: m.loss() for n, m in found.items()}, feats)
    balanced = gradients(model, model.balance(found, feats), feats)
    before, after = ([g.norm() for g in each] for each in (plain, balanced))
    assert before[1] / before[0] > 2  # what balancing has to mend
    torch.testing.assert_close(after[0] / after[1], torch.tensor(3.))
    torch.testing.assert_close(after[1], sum(before) / 2)


def test_balance_is_the_same_where_gradients_are_too_small_for_fp16():
    """Of 8 x 17 x 128 numbers, times 1e-5: below 6e-8, the least of fp16."""
    loss = dict(type='torch.nn.SmoothL1Loss', beta=2.)
    small = dict(
        type='mmfd.SumOfLosses', terms=dict(a=dict(loss=loss, weight=1e-5)))
    dino = branch(dino_teacher())
    dino['head'] = dict(dino['head'], loss=small)
    model = build_random(
        several(
            dict(type='mmfd.BalancedGradients'),
            clip=branch(clip_teacher()),
            dino=dino))
    found, x = [], pixels(8)
    for fast in False, True:
        with torch.autocast('cpu', torch.float16, enabled=fast):
            losses = model.balance(*meetings(model, x))
        found.append(losses['dino'] / losses['clip'])
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0)


@pytest.mark.parametrize('prob', [0., 0.5, 1.])
def test_dropping_keeps_the_worst_teacher_of_each_image(prob):
    model = build_random(several(dict(type='mmfd.TeacherDropping', prob=prob)))
    found, feats = meetings(model, pixels(6))
    each = torch.stack([
        torch.stack([
            F.smooth_l1_loss(m.pred[i], m.target[i], beta=2.0)
            for i in range(6)
        ]) for m in found.values()
    ])  # (T, B), one image at a time
    torch.manual_seed(3)
    losses = model.balance(found, feats)
    torch.manual_seed(3)
    kept = torch.rand(2, 6) >= prob
    kept[each.argmax(0), torch.arange(6)] = True
    assert kept.any(0).all() and (prob == 0) == kept.all().item()
    assert (prob < 1) or kept.sum() == 6
    expected = (each * kept).sum(1) / kept.sum()
    torch.testing.assert_close(torch.stack([*losses.values()]), expected)


def test_evaluation_tells_teachers_apart():
    model = build_random(
        several(
            clip=branch(clip_teacher(), weight=0.5),
            dino=branch(dino_teacher())))
    x = pixels(6)
    metric = HeldOutLoss()
    with torch.no_grad():
        samples = model.predict(x, [DataSample() for _ in range(6)])
        losses = model.loss(x)
    metric.process(None, [sample.to_dict() for sample in samples])
    found = metric.evaluate(6)
    total = sum(losses.values())
    torch.testing.assert_close(found['held_out/loss'], total.item())
    for name, weight in ('clip', 0.5), ('dino', 1.):
        torch.testing.assert_close(found[f'held_out/{name}_loss'],
                                   losses[f'loss_{name}'].item() / weight)
        target = model.branches[name].teacher(x)
        pred = model.branches[name].neck(model.extract_feat(x))
        error = F.mse_loss(pred, target) / target.var(0).mean()
        torch.testing.assert_close(
            found[f'held_out/{name}_explained'],
            1 - error.item(),
            rtol=1e-4,
            atol=1e-4)
    mean = (found['held_out/clip_explained'] +
            found['held_out/dino_explained']) / 2
    torch.testing.assert_close(found['held_out/explained'], mean)


@pytest.mark.parametrize('branches, words', [
    ({}, 'model.branches is empty'),
    ({
        'a.b': branch(clip_teacher())
    }, "'a.b' can be no name"),
    (dict(clip=branch(clip_teacher(), weight=0)), 'all weights are 0'),
    (dict(clip=branch(clip_teacher(), weight=-1)), 'clip.weight=-1'),
    (dict(clip=branch(clip_teacher(), weight='1')), "clip.weight='1'"),
    (dict(clip=branch(clip_teacher(), weight=float('nan'))),
     'weight=nan: a n'),
    (dict(keys=branch(clip_teacher())), "'keys' can be no name"),
    (dict(training=branch(clip_teacher())), "'training' can be no name"),
    (dict(teacher=branch(clip_teacher())), "'teacher' can be no name"),
    ([branch(clip_teacher())], 'model.branches is .*: a dict is expected'),
    (dict(clip=None), 'model.branches.clip is None: a dict with teacher'),
    (dict(clip=dict(weight=1.)), "clip is .*'weight': 1.0.*: a dict with tea"),
    (dict(clip=dict(branch(clip_teacher()), head=None)),
     'model.branches.clip.head is None: a dict with type'),
])
def test_what_is_no_set_of_teachers_is_refused(branches, words):
    config = several()
    config['branches'] = branches
    with pytest.raises(Refused, match=words):
        MODELS.build(config)


def test_gradients_of_a_frozen_student_are_not_balanced():
    model = build_random(several(dict(type='mmfd.BalancedGradients')))
    model.backbone.requires_grad_(False)
    with pytest.raises(Refused, match='student, which is frozen'):
        model.loss(pixels())


@pytest.mark.parametrize('neck, words', [
    (dict(type='mmfd.TargetNeck',
          normalize='phi_s'), 'teacher.neck.normalize'),
    (dict(type='mmfd.WhiteningNeck', grid=0), 'teacher.neck.grid=0'),
])
def test_what_is_wrong_with_a_teacher_is_said_with_its_branch(neck, words):
    config = several()
    config['branches']['dino']['teacher']['neck'] = neck
    with pytest.raises(Refused, match=f'^model.branches.dino: {words}'):
        MODELS.build(config)


def test_tokens_that_a_teacher_lacks_are_said_with_its_branch():
    config = several()
    dino = config['branches']['dino']['teacher']
    dino['backbone']['out_type'], dino['neck']['tokens'] = 'featmap', 'cls'
    with pytest.raises(Refused, match='^model.branches.dino: .*no cls token'):
        build_random(config).loss(pixels())


def test_balance_is_a_dict_with_a_type():
    with pytest.raises(Refused, match="model.balance is 'even': a dict with"):
        MODELS.build(several('even'))


def test_dropping_with_no_probability_is_refused():
    with pytest.raises(Refused, match='balance.prob=1.5'):
        MODELS.build(several(dict(type='mmfd.TeacherDropping', prob=1.5)))


# A whole run: one teacher sees images of twice the student's size, on another
# grid, and the other one has no cls token among what is compared
CONFIG = runs.CONFIG + """
normalize = dict(
    type='mmfd.Normalize', mean=[120., 115., 105.], std=[60., 58., 57.])
model = dict(
    _delete_=True,
    type='mmfd.MultiTeacherDistillation',
    data_preprocessor=dict(type='mmfd.PixelPreprocessor'),
    normalize=normalize,
    backbone=dict(
        type='mmfd.StudentViT', arch=small, img_size=32, patch_size=8,
        drop_path_rate=0.2, use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True, final_norm=True, out_type='raw'),
    branches=dict(
        large=dict(
            teacher=dict(
                type='mmfd.Teacher', checkpoint='random', img_size=64,
                normalize=normalize,
                backbone=dict(
                    type='mmpretrain.VisionTransformer', arch=small,
                    img_size=64, patch_size=8, out_type='raw'),
                neck=dict(type='mmfd.WhiteningNeck', grid=4)),
            neck=dict(
                type='mmfd.ProjectionNeck', in_channels=32, out_channels=32),
            head=dict(
                type='mmfd.DistillationHead',
                loss=dict(type='torch.nn.SmoothL1Loss', beta=2.0))),
        maps=dict(
            teacher=dict(
                type='mmfd.Teacher', checkpoint='random', img_size=32,
                normalize=normalize,
                backbone=dict(
                    type='mmpretrain.VisionTransformer', arch=small,
                    img_size=32, patch_size=8, out_type='featmap'),
                neck=dict(type='mmfd.L2Neck')),
            neck=dict(
                type='mmfd.ProjectionNeck', in_channels=32, out_channels=32,
                tokens='map'),
            head=dict(
                type='mmfd.DistillationHead',
                loss=dict(type='torch.nn.MSELoss')),
            weight=32.)))
del model['backbone']['arch'], small['_delete_']
model['backbone']['arch'] = small
for branch in model['branches'].values():
    branch['teacher']['backbone']['arch'] = small
del branch
default_hooks['monitor'] = dict(interval=4, images=4)
val_evaluator = test_evaluator = [dict(type='mmfd.HeldOutLoss')]
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory, shapes_root):
    """A config, and the work dir of its run."""
    folder = tmp_path_factory.mktemp('several')
    file = folder / 'several.py'
    file.write_text(CONFIG.format(repo=os.getcwd(), root=shapes_root))
    runs.run(file, folder / 'run')
    return file, folder / 'run'


def test_a_run_logs_each_teacher(trained):
    _, work_dir = trained
    lines = [*runs.lines(work_dir)]
    steps = [line for line in lines if 'lr' in line]
    assert len(steps) == 12
    for line in steps:
        assert line['loss'] == pytest.approx(
            line['loss_large'] + line['loss_maps'], rel=1e-5)
    assert steps[-1]['loss'] < steps[0]['loss']
    monitored = [line for line in lines if 'large_explained' in line]
    assert [line['step'] for line in monitored] == [0, 4, 8, 12]
    last = [line for line in lines if 'held_out/maps_explained' in line][-1]
    assert last['held_out/explained'] == pytest.approx(
        (last['held_out/maps_explained'] + last['held_out/large_explained']) /
        2)


def test_a_run_goes_on_from_its_first_epoch_as_it_did(trained, tmp_path):
    config, unbroken = trained
    runs.run(
        config,
        tmp_path / 'run',
        '--resume',
        unbroken / 'epoch_2.pth',
        options=('default_hooks.checkpoint.minutes=None', ))
    first, again = runs.final(unbroken), runs.final(tmp_path / 'run')
    assert first['state_dict'].keys() == again['state_dict'].keys()
    for name, value in first['state_dict'].items():
        assert torch.equal(value, again['state_dict'][name]), name


def test_a_run_is_not_resumed_with_another_teacher(trained, tmp_path):
    config, work_dir = trained
    said = runs.run(
        config,
        tmp_path / 'run',
        '--resume',
        work_dir / 'epoch_2.pth',
        options=('model.branches.maps.teacher.normalize.std=[9.,9.,9.]', ),
        code=1)
    assert 'model.branches.maps.teacher.normalize.std was [60' in said


def test_checkpoints_name_each_teacher(trained):
    _, work_dir = trained
    meta = runs.final(work_dir)['meta']
    assert meta['teacher.maps.file'] == meta['teacher.large.file'] == 'random'
    found = {meta[f'teacher.{name}.fingerprint'] for name in ('maps', 'large')}
    assert provenance.fingerprints(meta) == found and len(found) == 2
    of_others = {'teacher.teacher.fingerprint': '1', 'start.fingerprint': '2'}
    assert provenance.fingerprints({
        'teacher.maps.fingerprint': '3',
        'teacher.fingerprint': '4',
        **of_others
    }) == {'3', '4'}


def test_its_student_is_loaded_alone(trained):
    _, work_dir = trained
    network = mmfd.load_student(work_dir / 'epoch_3.pth')
    state = runs.final(work_dir)['state_dict']
    mine = {
        name.removeprefix('backbone.'): value
        for name, value in state.items() if name.startswith('backbone.')
    }
    assert network.tokens(pixels()).shape[-1] == 32
    for name, value in network.state_dict().items():
        key = name.partition('backbone.')[2]
        if key in mine:
            assert torch.equal(value, mine.pop(key))
    assert not mine


@pytest.mark.parametrize('options, words', [
    (('model.branches.maps.wait=2', ), "did you mean 'weight'"),
    (('model.branches.maps.teacher.checkpoint=missing.pth', ), 'missing.pth'),
    (('model.branches.large.teacher.neck.grid=2', ),
     'branches.large: .*neck.grid=2'),
    (('model.branches.large.neck.out_channels=16', ),
     'branches.large: .*neck.out_channels=32'),
])
def test_what_does_not_fit_is_named_with_its_branch(trained, tmp_path, options,
                                                    words):
    said = runs.run(trained[0], tmp_path / 'run', options=options, code=1)
    assert 'Traceback' not in said
    assert re.search(words, said.replace('\n', ' ')), said[-500:]


def test_config_of_two_published_teachers_meets_on_one_grid():
    cfg = read_config('configs/fd/several/siglip2_dinov2_vitb_fd.py')
    assert target_shapes(cfg.model, 224) == [(196, 768), (197, 768)]
    step = count_step(cfg.model, 1, 224, 'cpu', backward=False)
    assert step.teacher_flops > 1.9 * step.student_flops
