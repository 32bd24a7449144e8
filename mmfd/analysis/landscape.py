"""The loss around trained weights, along filter-normalised directions.

Li et al., arXiv 1712.09913, as in FD, fig. 5.
"""
import torch


def random_direction(parameters, generator):
    """A random step in which every filter is as long as its weights.

    Norms and biases, of one dimension, do not move.

    Args:
        parameters (dict): name -> Tensor.
        generator (torch.Generator): on the CPU.

    Returns:
        dict: name -> Tensor.
    """
    step = {}
    for name, weight in parameters.items():
        if weight.ndim < 2:
            step[name] = torch.zeros_like(weight)
            continue
        noise = torch.randn(weight.shape, generator=generator).to(weight)
        axes = tuple(range(1, weight.ndim))
        length, of_noise = (
            torch.linalg.vector_norm(filters, dim=axes, keepdim=True)
            for filters in (weight, noise))
        step[name] = noise * length / (of_noise + 1e-10)
    return step


@torch.no_grad()
def evaluate_along(module, directions, points, evaluate):
    """Move the weights to weights + sum of length x direction, and evaluate.

    At the end, and after an error, the weights are what they were, bit by
    bit.

    Args:
        module (nn.Module): whose weights are moved.
        directions (list[dict]): as `random_direction` gives them.
        points (list[tuple[float]]): a length for each direction.
        evaluate (Callable): takes nothing and returns a dict of numbers.

    Yields:
        dict: of `evaluate`, for each point.
    """
    parameters = dict(module.named_parameters())
    trained = {name: value.clone() for name, value in parameters.items()}
    try:
        for point in points:
            for name, value in parameters.items():
                value.copy_(trained[name])
                for length, direction in zip(point, directions):
                    value.add_(direction[name], alpha=length)
            yield evaluate()
    finally:
        for name, value in parameters.items():
            value.copy_(trained[name])
