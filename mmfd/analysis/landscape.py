"""Loss around trained weights, along filter-normalised random directions.

Li et al., arXiv 1712.09913, as FD's fig. 5 uses it.
"""
import torch


def direction(parameters, generator):
    """A random step in which every filter is as long as its weights.

    Norms and biases, all of one dimension, stay where they are.

    Args:
        parameters (dict): name -> Tensor.

    Returns:
        dict: the same names.
    """
    step = {}
    for name, weight in parameters.items():
        if weight.ndim < 2:
            step[name] = torch.zeros_like(weight)
            continue
        noise = torch.randn(weight.shape, generator=generator).to(weight)
        axes = tuple(range(1, weight.ndim))
        own, drawn = (
            torch.linalg.vector_norm(filters, dim=axes, keepdim=True)
            for filters in (weight, noise))
        step[name] = noise * own / (drawn + 1e-10)
    return step


@torch.no_grad()
def walk(module, directions, points, evaluate):
    """What `evaluate()` gives at weights + sum of point x direction.

    The weights are the old ones, bit by bit, when it ends or fails.

    Args:
        directions (list[dict]): as `direction` gives them.
        points (list[tuple[float]]): a length for every direction.
        evaluate (Callable): with no arguments, a dict of numbers.

    Yields:
        dict: for each point.
    """
    parameters = dict(module.named_parameters())
    start = {name: value.clone() for name, value in parameters.items()}
    try:
        for point in points:
            for name, value in parameters.items():
                value.copy_(start[name])
                for length, step in zip(point, directions):
                    value.add_(step[name], alpha=length)
            yield evaluate()
    finally:
        for name, value in parameters.items():
            value.copy_(start[name])
