"""Linear layers with packed weights, against those of the network."""
import pytest
import torch
import torch.nn.functional as F
from helpers.models import distillation, small_teacher
from mmengine.registry import MODELS
from torch import nn

from mmfd.fast.packed_weights import PackedWeights
from mmfd.hosts import kernels

BOUND = {'fp32': 1e-5, 'bf16': 2e-2}
DTYPES = [
    'fp32',
    pytest.param(
        'bf16',
        marks=pytest.mark.skipif(
            not kernels.can_pack(torch.bfloat16),
            reason='this processor has no products in bf16'))
]


def targets(teacher, pixels, dtype):
    """By packed weights, and by calling the backbone itself."""
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16,
                                         dtype == 'bf16'):
        feats = teacher.backbone(teacher.normalize(pixels))
        return teacher(pixels), teacher.neck(feats)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', ['clip_vitb16', 'dino_vitb16'])
def test_targets_are_those_of_the_backbone_itself(name, dtype):
    teacher = MODELS.build(small_teacher(name))
    before = {k: v.clone() for k, v in teacher.backbone.state_dict().items()}
    pixels = torch.randint(0, 256, (3, 3, 32, 32)).float()
    ours, plain = targets(teacher, pixels, dtype)
    torch.testing.assert_close(
        ours.float(), plain.float(), rtol=0, atol=BOUND[dtype])
    products = [
        m for m in teacher.backbone.modules() if isinstance(m, nn.Linear)
    ]
    kept = teacher.copies()
    assert len(kept) == len(products) and all(w.is_mkldnn for w in kept)
    targets(teacher, pixels[:1], dtype)  # other batches, the same copies
    assert all(a is b for a, b in zip(kept, teacher.copies(), strict=True))
    after = teacher.backbone.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_weights_that_are_written_to_or_moved_are_copied_again():
    teacher = MODELS.build(small_teacher('dino_vitb16'))
    pixels = torch.randint(0, 256, (2, 3, 32, 32)).float()
    first, _ = targets(teacher, pixels, 'fp32')
    with torch.no_grad():
        for weight in teacher.backbone.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    ours, plain = targets(teacher, pixels, 'fp32')
    assert (ours - first).abs().max() > 0.1
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
    teacher.to(torch.float64)
    assert not teacher.copies()
    ours, plain = targets(teacher, pixels.double(), 'fp32')
    assert torch.equal(ours, plain)  # nothing packs fp64


@pytest.mark.parametrize('act', [nn.GELU(), nn.GELU('tanh'), nn.ReLU()])
def test_only_a_gelu_behind_the_product_is_computed_in_it(act):
    chain = nn.Sequential(nn.Linear(8, 16), act, nn.Linear(16, 8))
    chain.requires_grad_(False)
    other = nn.Linear(8, 8).requires_grad_(False)
    x, seen = torch.randn(4, 8), []
    with PackedWeights(nn.ModuleList([chain, other])) as packed:
        handle = chain[0].register_forward_hook(
            lambda _, __, out: seen.append(out))
        y = chain(x)
        handle.remove()
        z = F.gelu(other(x))  # in no chain
    hidden = F.linear(x, chain[0].weight, chain[0].bias)
    fused = isinstance(act, nn.GELU) and act.approximate == 'none'
    assert len(packed.before_gelu) == fused
    torch.testing.assert_close(seen[0], act(hidden) if fused else hidden)
    torch.testing.assert_close(y, chain(x))
    torch.testing.assert_close(z, F.gelu(other(x)))


def test_other_tensors_and_trained_weights_are_used_as_they_are():
    x, network = torch.randn(4, 8), nn.Linear(8, 8)
    made = torch.randn(8, 8)  # another one could come to its address
    with PackedWeights(network) as packed:
        assert torch.equal(F.linear(x, made), x @ made.t())
        learnt = network(x)
    assert not packed.copies and learnt.grad_fn is not None


def test_weights_that_come_later_are_used_as_they_are_at_any_address():
    """As those do that a process gathers of a teacher in shards."""
    chain = nn.Sequential(nn.Linear(8, 8), nn.GELU()).requires_grad_(False)
    x, packed = torch.randn(4, 8), PackedWeights(chain)
    values = chain[0].weight.detach().clone()
    with packed:
        chain(x)
        for _ in range(100):  # each where the one before has been
            chain[0].weight = None
            chain[0].weight = nn.Parameter(values, False)
            assert torch.equal(chain[0](x), F.linear(x, values, chain[0].bias))
    assert len(packed.copies) == 1


def test_copies_made_while_evaluating_serve_in_training():
    model = MODELS.build(distillation()).train()
    pixels = torch.randint(0, 256, (2, 3, 32, 32)).float()
    with torch.inference_mode():
        first = model.teacher(pixels)
    assert torch.equal(model.teacher(pixels), first)
    model.loss(pixels)['loss'].backward()


class Twice(nn.Linear):

    def forward(self, x):
        return 2 * super().forward(x)


def test_product_that_does_not_go_straight_to_its_gelu_is_an_error():
    chain = nn.Sequential(Twice(8, 8), nn.GELU()).requires_grad_(False)
    with PackedWeights(chain), pytest.raises(
            RuntimeError, match=r'mul takes a product \(4, 8\)'):
        chain(torch.randn(4, 8))
