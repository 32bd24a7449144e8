"""Rotations after which all channels have the same variance."""
import torch

_DOUBLE = torch.tensor([[1., 1.], [1., -1.]], dtype=torch.float64)


def equalizer(values):
    """A rotation after which channels of these variances have all the same.

    A Hadamard matrix over the root of its width, whose squares are all equal,
    where one is constructed (`hadamard`), as in PHI-S. Elsewhere plane
    rotations, each of which gives one more channel the mean variance (Bendel
    and Mickey, 1978).

    Args:
        values (Tensor): (C, ), of uncorrelated channels.

    Returns:
        Tensor: (C, C) in fp64, orthogonal.
    """
    signs = hadamard(len(values))
    if signs is not None:
        return signs / len(values)**.5
    return _plane_rotations(values.double())


def hadamard(size):
    """A matrix of 1 and -1 whose rows are orthogonal, or None.

    Constructed by doubling (Sylvester) the smallest matrix that squares modulo
    a prime give (Paley).

    Returns:
        Tensor | None: (size, size) in fp64.
    """
    odd = size
    while odd % 2 == 0:
        odd //= 2
    block = odd
    while block <= size:
        signs = _paley(block)
        if signs is not None:
            while len(signs) < size:
                signs = torch.kron(_DOUBLE, signs)
            return signs
        block *= 2
    return None


def _paley(size):
    """Paley's matrix of this size by a prime of either kind, or None."""
    if size <= 2:
        return _DOUBLE[:size, :size]
    if _is_prime(size - 1) and size % 4 == 0:  # prime of 3 modulo 4
        core = _bordered(size - 1, -1)
        return core + torch.eye(size, dtype=torch.float64)
    half = size // 2
    if size % 4 == 0 and _is_prime(half - 1) and half % 4 == 2:
        core = _bordered(half - 1, 1)  # symmetric; prime of 1 modulo 4
        zeros = torch.eye(half, dtype=torch.float64)
        return torch.kron(core, _DOUBLE) + torch.kron(
            zeros, torch.tensor([[1., -1.], [-1., -1.]], dtype=torch.float64))
    return None


def _bordered(prime, sign):
    """Which differences are squares modulo a prime, with a border of ones.

    Returns:
        Tensor: (prime + 1, prime + 1): 0 on the diagonal, else 1 or -1; the
        first column is of `sign`.
    """
    squares = {i * i % prime for i in range(1, prime)}
    character = torch.tensor(
        [0.] + [1. if i in squares else -1. for i in range(1, prime)],
        dtype=torch.float64)
    index = torch.arange(prime)
    core = torch.zeros(prime + 1, prime + 1, dtype=torch.float64)
    core[0, 1:], core[1:, 0] = 1, sign
    core[1:, 1:] = character[(index[:, None] - index) % prime]
    return core


def _is_prime(number):
    return number > 1 and all(number % i
                              for i in range(2,
                                             int(number**.5) + 1))


def _plane_rotations(values):
    rotated, rotation = values.diag(), torch.eye(len(values)).double()
    mean = values.mean()
    for _ in range(len(values) - 1):
        low, high = rotated.diagonal().argmin(), rotated.diagonal().argmax()
        a, b, c = rotated[low, low], rotated[high, high], rotated[low, high]
        if not a < mean < b:
            break
        # tan of the angle: a + 2 t c + t^2 b = (1 + t^2) mean
        t = ((c.square() - (a - mean) * (b - mean)).sqrt() - c) / (b - mean)
        cos = 1 / (1 + t.square()).sqrt()
        plane = torch.stack((cos, cos * t, -cos * t, cos)).view(2, 2)
        pair = torch.stack((low, high))
        rotated[pair] = plane @ rotated[pair]
        rotated[:, pair] = rotated[:, pair] @ plane.mT
        rotation[pair] = plane @ rotation[pair]
    return rotation
