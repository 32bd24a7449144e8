"""What frozen features know of classes: a linear classifier of them."""
import torch
import torch.nn.functional as F


def ridge(features, labels, strength=1.):
    """Fit a linear classifier by ridge regression, in closed form.

    Args:
        features (Tensor): (B, C).
        labels (Tensor): (B, ), classes from 0 to K - 1.
        strength (float): penalty on the squared weights, not on the bias.

    Returns:
        weight (K, C) and bias (K, ), as `torch.nn.Linear` has them.
    """
    x, y = features.double(), F.one_hot(labels).double()
    centred = x - x.mean(0)
    gram = centred.T @ centred + strength * torch.eye(x.shape[1])
    weight = torch.linalg.solve(gram, centred.T @ y).T
    return weight.float(), (y.mean(0) - weight @ x.mean(0)).float()
