"""Measures have the values that can be computed by hand."""
from math import log

import pytest
import torch

from mmfd.analysis import measures
from mmfd.analysis.attention import token_positions


def grid(side, patch):
    return token_positions((side * patch, ) * 2, 1, side**2)[0]


@pytest.mark.parametrize('side, patch, pixels', [(14, 16, 116.49),
                                                 (16, 14, 116.57)])
def test_uniform_attention_has_the_known_distance(side, patch, pixels):
    weights = torch.full((2, 1, 3, side**2, side**2), 1 / side**2)
    distance = measures.attention_distance(weights, grid(side, patch), 0)
    assert distance.tolist() == pytest.approx([pixels] * 3, abs=5e-3)


def test_attention_to_oneself_has_distance_zero():
    weights = torch.eye(196)[None, None, None]
    assert measures.attention_distance(weights, grid(14, 16), 0) == 0


@pytest.mark.parametrize('shift', [1, 3])
def test_attention_one_shift_away_has_its_length(shift):
    positions = grid(4, 16)
    weights = torch.eye(16).view(4, 4, 16).roll(shift, 1).view(16, 16)
    distance = measures.attention_distance(weights[None, None, None],
                                           positions, 0)
    around = 16. * (shift * (4 - shift) + (4 - shift) * shift) / 4
    assert distance.item() == pytest.approx(around)


def test_cls_token_is_left_out_by_renormalising_or_counts_as_near():
    weights = torch.full((1, 1, 1, 197, 197), 0.5 / 196)
    weights[..., 0] = 0.5
    one, other = (
        measures.attention_distance(weights, grid(14, 16), 1, way)
        for way in (True, False))
    assert one.item() == pytest.approx(116.49, abs=5e-3)
    assert other.item() == pytest.approx(116.49 / 2, abs=5e-3)


def test_equal_heads_have_cosine_one_and_divergence_zero():
    weights = torch.rand(2, 1, 1, 9, 9).softmax(-1).expand(-1, -1, 4, -1, -1)
    similarity = measures.head_similarity(weights)
    divergence, _ = measures.head_divergence(weights)
    torch.testing.assert_close(similarity, torch.ones(4, 4))
    torch.testing.assert_close(divergence, torch.zeros(4, 4))
    assert measures.off_diagonal(similarity).item() == pytest.approx(1)


def test_heads_that_look_elsewhere_have_cosine_zero():
    weights = torch.stack([torch.eye(4), torch.eye(4).flip(0)])[None, None]
    assert measures.off_diagonal(measures.head_similarity(weights)) == 0


def test_entropy_is_log_n_of_uniform_and_zero_of_one_hot_attention():
    weights = torch.stack([torch.full((9, 9), 1 / 9), torch.eye(9)])
    divergence, entropy = measures.head_divergence(weights[None, None])
    assert entropy.tolist() == pytest.approx([log(9), 0], abs=1e-5)
    # of one-hot against uniform: log n - 0
    assert divergence[1, 0].item() == pytest.approx(log(9), abs=1e-5)


@pytest.mark.parametrize('side', [4, 7])
def test_offset_explains_all_of_a_toeplitz_map_and_nothing_of_columns(side):
    positions = grid(side, 16)
    offset = (positions[:, None] - positions[:, :, None]) / 16 + side
    table = torch.randn(2 * side, 2 * side)
    toeplitz = table[offset[..., 0].long(), offset[..., 1].long()]
    columns = torch.randn(side**2).expand(1, side**2, -1)
    share = measures.variance_explained_by_offset
    assert share(toeplitz, positions).item() == pytest.approx(1)
    assert share(columns, positions) == pytest.approx(0, abs=0.05)
    assert measures.variance_explained_by_key(columns,
                                              positions) == pytest.approx(1)


def test_grouping_explains_nothing_of_noise():
    noise, positions = torch.randn(1, 196, 196), grid(14, 16)
    for share in (measures.variance_explained_by_offset,
                  measures.variance_explained_by_key):
        assert share(noise, positions) < 0.01


def test_cka_does_not_see_rotation_and_scale():
    x, y = torch.randn(2, 50, 8, dtype=torch.double)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.double))[0]
    other = measures.cka(x, y)
    assert other < 0.6
    torch.testing.assert_close(measures.cka(x, x), torch.ones_like(other))
    torch.testing.assert_close(measures.cka(3 * x @ rotation + 5, y), other)
    grams = torch.stack([
        measures.gram(f) for f in (x, y, 3 * x @ rotation + 5,
                                   torch.ones(50, 1, dtype=torch.double) + y)
    ])
    batched = measures.cka_of(measures.hsic(grams))
    assert batched[0, 2].item() == pytest.approx(1)
    assert batched[0, 1].item() == pytest.approx(batched[2, 3].item())
    assert abs(batched[0, 1]) < 0.1  # unbiased: of independent features


def test_unbiased_hsic_is_that_of_the_definition():
    """Song et al., eq. 5: sums over tuples of different examples."""
    x, y = torch.randn(2, 12, 3, dtype=torch.double)
    n = len(x)
    k, m = ((f @ f.T) * (1 - torch.eye(n)) for f in (x, y))
    expected = ((k @ m).trace() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 *
                (k @ m).sum() / (n - 2)) / (
                    n * (n - 3))
    grams = torch.stack([measures.gram(f) for f in (x, y)])
    torch.testing.assert_close(measures.hsic(grams)[0, 1], expected)


def test_effective_rank_counts_equal_directions():
    values = measures.singular_values(torch.diag(torch.tensor([4., 4., 0.])))
    assert values.tolist() == [2, 2, 0]
    assert measures.effective_rank(values).item() == pytest.approx(2)


def test_colours_are_the_components_of_patches():
    axes = torch.linalg.qr(torch.randn(8, 8))[0][:3]
    parts = torch.rand(2, 5, 5, 3) * torch.tensor([9., 3., 1.])
    shown = measures.colours(parts @ axes + 7)
    assert shown.shape == (2, 5, 5, 3)
    assert 0 <= shown.min() and shown.max() <= 1
    for i in range(3):
        pair = torch.stack([shown[..., i].flatten(), parts[..., i].flatten()])
        assert torch.corrcoef(pair)[0, 1].abs() > 0.9
