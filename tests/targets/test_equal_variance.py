"""Rotations that give all channels the same variance, at any width."""
import pytest
import torch

from mmfd.targets.equal_variance import equalizer, hadamard

# by doubling alone; by primes of either kind; by doubling one of these
WIDTHS = [1, 2, 64, 1024, 12, 20, 36, 76, 48, 384, 768, 1152, 1280, 1664]


@pytest.mark.parametrize('width', WIDTHS)
def test_hadamard_matrix_has_signs_and_orthogonal_rows(width):
    signs = hadamard(width)
    assert torch.equal(signs.abs(), torch.ones(width, width).double())
    assert torch.equal(signs @ signs.T, width * torch.eye(width).double())


@pytest.mark.parametrize('width', [3, 5, 6, 7, 52, 100])
def test_no_hadamard_matrix_is_made_up(width):
    """There is none of odd width, and no prime gives one of 52 or 100."""
    assert hadamard(width) is None


@pytest.mark.parametrize('width', [1, 2, 3, 6, 7, 52, 100, 192])
def test_variances_become_their_mean_under_a_rotation(width):
    values = torch.rand(width).double().pow(6)
    rotation = equalizer(values)
    torch.testing.assert_close(rotation @ rotation.T,
                               torch.eye(width).double())
    rotated = (rotation @ values.diag() @ rotation.T).diagonal()
    torch.testing.assert_close(rotated, values.mean().expand(width))


def test_equal_variances_stay():
    torch.testing.assert_close(equalizer(torch.ones(7)), torch.eye(7).double())
