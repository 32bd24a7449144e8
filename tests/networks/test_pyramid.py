"""The simple feature pyramid: levels, strides, and what each computes."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from mmfd.errors import Refused


def pyramid(**kwargs):
    return MODELS.build(
        dict(
            type='mmfd.SimplePyramid',
            in_channels=16,
            out_channels=8,
            **kwargs))


@pytest.mark.parametrize('outs', [4, 5, 6])
def test_levels_double_and_halve_the_map(outs):
    maps = pyramid(num_outs=outs)([None, torch.randn(2, 16, 6, 10)])
    sizes = [(24, 40), (12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]
    assert [m.shape for m in maps] == [(2, 8, *s) for s in sizes[:outs]]


def test_a_scale_that_cannot_be_is_refused():
    with pytest.raises(
            Refused, match=r'neck.scales has 3: .* \[4, 2, 1, 0.5\]'):
        pyramid(scales=(4, 3))


def norm(x, channels):
    mean = x.mean(1, keepdim=True)
    return (x - mean) / (x.var(1, False, keepdim=True) + 1e-6).sqrt()


def test_levels_equal_the_paper_written_out():
    neck, x = pyramid(num_outs=5), torch.randn(1, 16, 5, 7)
    weights = neck.state_dict()

    def level(i, x, start):
        x = F.conv2d(x, weights[f'levels.{i}.{start}.weight'])
        x = norm(x, 8)
        x = F.conv2d(x, weights[f'levels.{i}.{start + 2}.weight'], padding=1)
        return norm(x, 8)

    def larger(x, name):
        return F.conv_transpose2d(
            x, weights[f'{name}.weight'], weights[f'{name}.bias'], stride=2)

    four = larger(F.gelu(norm(larger(x, 'levels.0.0'), 8)), 'levels.0.3')
    expected = [
        level(0, four, 4),
        level(1, larger(x, 'levels.1.0'), 1),
        level(2, x, 0),
        level(3, F.max_pool2d(x, 2), 1),
    ]
    expected.append(expected[-1][..., ::2, ::2])
    for found, wanted in zip(neck([x]), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
