"""A linear classifier of frozen features, in closed form."""
import torch

from mmfd.analysis.probes import ridge


def test_ridge_regression_is_least_squares_with_as_many_zeros():
    """As if C rows more asked each weight, but not the bias, to be 0."""
    x, labels = torch.randn(40, 6).double() + 1, torch.arange(40) % 3
    weight, bias = ridge(x, labels, strength=2.)
    rows = torch.cat((x, torch.ones(40, 1)), 1)
    zeros = torch.cat((2**0.5 * torch.eye(6), torch.zeros(6, 1)), 1)
    targets = torch.cat((torch.eye(3)[labels], torch.zeros(6, 3)))
    solved = torch.linalg.lstsq(torch.cat((rows, zeros)),
                                targets.double()).solution
    torch.testing.assert_close(weight.double(), solved[:6].T)
    torch.testing.assert_close(bias.double(), solved[6])
