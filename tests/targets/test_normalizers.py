"""Normalisers: what they promise of targets, and their inverses."""
from multiprocessing import get_context

import pytest
import torch
import torch.distributed as dist
from helpers.models import clip_teacher
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.necks import TargetNeck
from mmfd.targets import normalizers
from mmfd.targets.normalizers import NORMALIZERS, RunningStandardize
from mmfd.targets.token_statistics import (TokenMoments, TokenStatistics,
                                           selection)
from mmfd.weights import checkpoints

ALL = selection('all', None)
OF_FILE = ['standardize', 'phi_s', 'pca', 'zca']


def correlated(width=12, count=6000):
    """Tokens (4, count / 4, width) whose channels differ and go together."""
    generator = torch.Generator().manual_seed(width)
    mixing = torch.randn(
        width, width, generator=generator) * torch.logspace(0, -2, width)
    tokens = torch.randn(4, count // 4, width, generator=generator)
    return tokens @ mixing.T + 3 * torch.randn(width, generator=generator)


def statistics_of(tokens, chosen=ALL, teacher='random'):
    moments = TokenMoments()
    moments.add(tokens)
    return TokenStatistics(moments.mean, moments.covariance(), moments.count,
                           len(tokens), teacher, chosen, '[32, 32]')


@pytest.fixture
def file(tmp_path):
    """Statistics of `correlated()`."""
    path = tmp_path / 'tokens.safetensors'
    statistics_of(correlated()).save(path)
    return str(path)


def covariance(tokens):
    return torch.cov(tokens.flatten(0, -2).double().T)


def test_moments_of_batches_are_those_of_all_tokens():
    tokens = correlated() + 1000  # far from zero
    moments = TokenMoments()
    for part in tokens.split([1, 2, 1]):
        moments.add(part)
    flat = tokens.flatten(0, 1).double()
    torch.testing.assert_close(moments.mean, flat.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        moments.covariance(), torch.cov(flat.T), rtol=1e-9, atol=1e-12)
    assert moments.count == len(flat)


@pytest.mark.parametrize('width', [12, 7])  # with a Hadamard matrix, without
def test_phi_s_gives_equal_variance_and_keeps_angles(width):
    tokens = correlated(width)
    module = NORMALIZERS['phi_s'].of(statistics_of(tokens))
    target = module(tokens)
    assert target.mean((0, 1)).abs().max() < 1e-4
    torch.testing.assert_close(
        covariance(target).diagonal().float(),
        torch.ones(width),
        rtol=1e-4,
        atol=0)
    scale = covariance(tokens).trace().div(width).sqrt().float()
    centred = tokens - tokens.mean((0, 1))
    torch.testing.assert_close(
        target[0] @ target[0].T * scale**2,
        centred[0] @ centred[0].T,
        rtol=1e-3,
        atol=1e-3)  # one scale and a rotation: angles and ratios of lengths


@pytest.mark.parametrize('name', ['pca', 'zca'])
def test_whitening_decorrelates(name):
    tokens = correlated()
    module = NORMALIZERS[name].of(statistics_of(tokens), eps=1e-9)
    torch.testing.assert_close(
        covariance(module(tokens)).float(), torch.eye(12), rtol=0, atol=2e-3)


def test_principal_components_come_in_order_and_zca_is_symmetric():
    statistics = statistics_of(correlated())
    values, vectors = torch.linalg.eigh(statistics.covariance)
    pca = NORMALIZERS['pca'].of(statistics, eps=1e-9)
    first = pca.inverse_matrix[:, -1].double()
    torch.testing.assert_close(
        (first @ vectors[:, -1]).abs(), values[-1].sqrt(), rtol=1e-5, atol=0)
    zca = NORMALIZERS['zca'].of(statistics)
    torch.testing.assert_close(zca.matrix, zca.matrix.T)


def test_components_of_almost_no_variance_are_not_blown_up():
    tokens = correlated()
    tokens[..., 3] = tokens[..., 5]  # rank 11
    target = NORMALIZERS['zca'].of(statistics_of(tokens))(tokens)
    assert target.abs().max() < 100 and target.isfinite().all()


def test_standardised_channels_have_mean_0_and_variance_1():
    tokens = correlated()
    tokens[..., 2] = 5  # a dead channel
    target = NORMALIZERS['standardize'].of(statistics_of(tokens))(tokens)
    assert target.mean((0, 1)).abs().max() < 1e-4
    variances = covariance(target).diagonal().float()
    assert variances[2] < 1e-6
    variances[2] = 1
    torch.testing.assert_close(variances, torch.ones(12), rtol=1e-4, atol=0)


def test_standardised_tokens_are_those_of_theia():
    """The first token by the authors' code, once, in fp32.

    bdaiinstitute/theia, 59d0448: `calc_feature_mean.py` of these tokens as a
    data set of four images, then `normalize_feature`.
    """
    theirs = torch.tensor([
        -0.68822664, -0.26083311, -0.89646101, -0.65288800, 0.03516265,
        -0.62054247, -0.21864893, -0.64016259, 0.59293461, -0.85749900,
        0.56392753, -0.51661152
    ])
    tokens = correlated()
    target = NORMALIZERS['standardize'].of(statistics_of(tokens))(tokens)
    torch.testing.assert_close(target[0, 0], theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', ['none', *OF_FILE])
def test_inverse_gives_the_tokens_back(name, file):
    module = normalizers.build(name, file if name in OF_FILE else None, ALL)
    tokens = correlated()
    torch.testing.assert_close(
        module.inverse(module(tokens)), tokens, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', ['layer_norm', 'l2'])
def test_where_the_direction_alone_comes_back_it_says_so(name):
    module = normalizers.build(name, None, ALL)
    tokens = correlated()
    with pytest.raises(Refused, match='direction .*no inverse'):
        module.inverse(module(tokens))


def test_matrices_multiply_in_fp32_under_autocast(file):
    module = normalizers.build('phi_s', file, ALL)
    tokens = correlated()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        inside = module(tokens)
        back = module.inverse(inside)
    assert inside.dtype == back.dtype == torch.float32
    assert torch.equal(inside, module(tokens))


# --- running statistics ---


def run(module, batches):
    module.train()
    for batch in batches:
        target = module(batch)
    module.eval()
    return target


def test_cumulative_statistics_are_those_of_all_that_was_seen():
    tokens = correlated() + 100
    module = RunningStandardize(12)
    run(module, tokens.split(1))
    flat = tokens.flatten(0, 1).double()
    torch.testing.assert_close(module.mean, flat.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(module.std, flat.std(0), rtol=1e-10, atol=0)
    assert module.count == len(flat)
    torch.testing.assert_close(
        module.inverse(module(tokens)), tokens, rtol=1e-6, atol=1e-4)


def test_running_average_is_its_closed_form():
    """Of n batches: sum of m (1 - m)^(n - i) x_i, and (1 - m)^n x_0."""
    batches = correlated().split(1)
    module = RunningStandardize(12, momentum=0.3)
    run(module, batches)
    weights = torch.tensor([.7**3, .3 * .7**2, .3 * .7, .3],
                           dtype=torch.float64)
    for own, function in (module.mean, torch.mean), (module.std, torch.std):
        each = torch.stack([function(b[0].double(), 0) for b in batches])
        torch.testing.assert_close(own, weights @ each, rtol=1e-10, atol=1e-12)


def test_a_running_average_needs_two_tokens_in_a_batch():
    """Of single ones each deviation is `eps`, and targets are its inverse."""
    one, = correlated()[:1, :1].split(1)
    with pytest.raises(Refused, match='one token has no standard deviation'):
        run(RunningStandardize(12, momentum=0.3), [one])
    run(RunningStandardize(12), [one, one])


def test_statistics_stand_still_outside_training():
    batches = correlated().split(2)
    module = RunningStandardize(12)
    run(module, batches[:1])
    before = module.state_dict()
    before = {name: value.clone() for name, value in before.items()}
    first = module(batches[1])
    assert torch.equal(first, module(batches[1]))
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_run_goes_on_from_what_its_state_says():
    batches = correlated().split(1)
    whole, first, second = (RunningStandardize(12) for _ in range(3))
    run(whole, batches)
    run(first, batches[:2])
    second.load_state_dict(first.state_dict())
    run(second, batches[2:])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def of_one_process(rank, processes, folder, answers, settings):
    torch.set_num_threads(1)  # those of the parent are not in a fork
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=processes)
    module = RunningStandardize(12, **settings)
    halves = [b.chunk(processes, 1)[rank] for b in correlated().split(2)]
    run(module, halves)
    answers.put([*map(torch.Tensor.tolist, module.state_dict().values())])
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize('settings', [dict(), dict(momentum=0.1)])
def test_two_processes_are_one(tmp_path, settings):
    fork = get_context('fork')
    answers = fork.Queue()
    workers = [
        fork.Process(
            target=of_one_process,
            args=(rank, 2, tmp_path, answers, settings),
            daemon=True) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    measured = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    expected = RunningStandardize(12, **settings)
    run(expected, correlated().split(2))
    for one in measured:
        for own, whole in zip(one, expected.state_dict().values()):
            torch.testing.assert_close(
                torch.tensor(own, dtype=torch.float64),
                whole.double(),
                rtol=1e-12,
                atol=0)


# --- in a teacher ---


@pytest.mark.parametrize('name', ['standardize', 'phi_s'])
def test_buffers_of_the_neck_are_in_the_state_of_the_teacher(name, tmp_path):
    file = tmp_path / 'tokens.safetensors'
    statistics_of(correlated(128), selection('map', None)).save(file)
    neck = dict(
        type='mmfd.TargetNeck',
        normalize=name,
        statistics=str(file),
        tokens='map')
    teacher = MODELS.build(clip_teacher(neck=neck))
    own = normalizers.build(name, str(file), selection('map', None))
    expected = {f'neck.normalize.{k}': v for k, v in own.state_dict().items()}
    assert teacher.state_dict().keys() == expected.keys()
    assert not [*teacher.parameters()]
    tokens = MODELS.build(
        clip_teacher(neck=dict(neck, normalize='none', statistics=None)))
    for part in teacher, tokens:
        torch.manual_seed(0)
        for parameter in part.backbone.parameters():
            torch.nn.init.normal_(parameter, std=.1)
        part.weights_replaced()
    images = torch.rand(2, 3, 32, 32) * 255
    torch.testing.assert_close(teacher(images), own(tokens(images)))


@pytest.mark.parametrize('settings, message', [
    (dict(normalize='whiten'), "'whiten': expected one of 'layer_norm'"),
    (dict(normalize='phi_s'), 'needs the mean and covariance .* mmfd stat'),
    (dict(normalize='phi_s', statistics='away.safetensors'),
     'away.safetensors. This makes it: mmfd statistics'),
    (dict(normalize='l2', statistics='x'), 'reads no statistics'),
    (dict(normalize='running'), "needs the teacher's width"),
    (dict(normalize=dict(type='running', channels=4, momentum=1.5)),
     'momentum=1.5: a number above 0'),
    (dict(normalize=dict(type='l2', eps=1)), "unexpected keyword .*'eps'"),
    (dict(normalize=dict(type='layer_norm', eps=-1.)), 'eps=-1.0: a number a'),
    (dict(normalize=dict(type='running', channels='4')), "channels='4': the"),
    (dict(normalize=dict(type='running', channels=4, eps=float('nan'))),
     'eps=nan: a number above 0'),
    (dict(normalize=['l2']), r"normalize=\['l2'\]: expected one of"),
    (dict(tokens=['map']), r"neck.tokens=\['map'\]: expected one of"),
    (dict(normalize='zca', statistics=3), 'statistics=3: the path of a file'),
])
def test_what_cannot_be_built_is_one_message(settings, message):
    with pytest.raises(Refused, match=message):
        TargetNeck(**settings)


def test_statistics_of_other_tokens_are_refused(file):
    with pytest.raises(Refused, match="tokens='all', grid=null, and .*'map'"):
        TargetNeck('phi_s', file, tokens='map')
    with pytest.raises(Refused, match=r'grid=\[7, 7\]'):
        TargetNeck('phi_s', file, grid=7)


@pytest.mark.parametrize('name', ['standardize', 'pca', 'zca'])
@pytest.mark.parametrize('eps', [0, -1, float('nan'), '1'])
def test_a_floor_that_is_none_is_refused(name, eps, file):
    with pytest.raises(Refused, match='eps=.*: a number above 0'):
        TargetNeck(dict(type=name, eps=eps), file)


@pytest.mark.parametrize('name', OF_FILE)
def test_statistics_of_another_width_are_refused(name, file):
    with pytest.raises(Refused, match='has 8 channels, and .* is of 12'):
        TargetNeck(name, file)((torch.zeros(2, 5, 8), ))


def test_a_file_of_other_content_is_refused(tmp_path, file):
    tensors, meta = checkpoints.load(file), checkpoints.meta(file)
    other = str(tmp_path / 'other.safetensors')
    broken = [
        (dict(mean=tensors['mean']), meta),
        (dict(tensors, covariance=tensors['covariance'][:3]), meta),
        (dict(tensors, mean=tensors['mean'] * float('nan')), meta),
        (tensors, {
            k: v
            for k, v in meta.items() if k != 'teacher'
        }),
        (tensors, dict(meta, tokens='many')),
        (tensors, dict(meta, tokens='12')),  # as many as channels
        (dict(tensors, covariance=-tensors['covariance']), meta),
        (dict(tensors, covariance=0 * tensors['covariance']), meta),
        (dict(tensors, covariance=tensors['covariance'].triu()), meta),
        (dict(tensors, covariance=tensors['covariance'].long()), meta),
    ]
    for tensors, meta in broken:
        checkpoints.save(tensors, other, meta)
        with pytest.raises(Refused, match='does not hold a finite mean'):
            TargetNeck('zca', other)
