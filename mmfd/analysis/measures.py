"""Measures of representations: pure functions, each a mean over images.

Shapes: B images, L tokens, C channels, H heads, (h, w) grid, W windows in an
image, N = L - extra patches of a window. Attention weights are
(B, W, H, L, L), with a row for each query.
"""
import torch
import torch.nn.functional as F

TINY = 1e-30  # in the place of smaller weights, before a logarithm
OUTLIER = 5  # a channel is an outlier from so many medians on


def attention_distance(weights, positions, extra, renormalise=True):
    """Mean distance from a patch to the patches it attends to (FD, fig. 2).

    Args:
        weights: (B, W, H, L, L).
        positions: (W, N, 2) in pixels.
        extra (int): tokens before the patches.
        renormalise (bool): let each row sum to one without the extra tokens.
            False: attention to them counts as distance 0.

    Returns:
        (H, ) in pixels.
    """
    weights = weights[..., extra:, extra:]
    distances = torch.cdist(positions, positions)[:, None]  # (W, 1, N, N)
    reached = (weights * distances).sum(-1)
    if renormalise:
        reached = reached / weights.sum(-1)
    return reached.mean((0, 1, 3))


def head_similarity(weights):
    """Cosine between the maps of each two heads, (H, H) (FD, fig. 3)."""
    maps = F.normalize(weights.transpose(1, 2).flatten(2), dim=-1)
    return (maps @ maps.mT).mean(0)


def head_divergence(weights):
    """KL between the rows of each two heads, and entropy of each, in nats.

    After Xie et al., arXiv 2205.13543. Weights below 1e-30 count as 1e-30.

    Returns:
        tuple: (H, H), where a row is the first argument of KL, and (H, ).
    """
    rows = weights.transpose(2, 3)  # (B, W, L, H, L)
    cross = (rows @ rows.clamp(min=TINY).log().mT).mean((0, 1, 2))  # (H, H)
    entropy = -cross.diagonal()
    return -entropy[:, None] - cross, entropy


def off_diagonal(matrix):
    """Mean over the pairs of heads in (H, H); nan for a single head."""
    count = len(matrix)
    total = matrix.sum() - matrix.diagonal().sum()
    return total / (count * (count - 1))


def variance_explained_by_offset(average, positions):
    """Share of the variance of a mean map that key minus query explains.

    1 for a map that moves along with its query, as translation equivariance
    asks (FD, fig. 4).

    Args:
        average: (W, N, N), of patches.
        positions: (W, N, 2) in pixels.
    """
    offsets = positions[:, None] - positions[:, :, None]  # (W, N, N, 2)
    return explained_variance(average, offsets.round().long())


def variance_explained_by_key(average, positions):
    """The same for the key alone: 1 if all queries look at the same place."""
    keys = positions[:, None].expand(-1, positions.shape[1], -1, -1)
    return explained_variance(average, keys.round().long())


def explained_variance(values, labels):
    """Share of the variance of values that their groups explain (adjusted R2).

    Adjusted for the number of groups, so that groups explain nothing of
    noise; not below 0.

    Args:
        values: (...).
        labels: (..., n) int, equal for values of the same group.
    """
    values = values.flatten().double()
    _, group, sizes = labels.flatten(0, -2).unique(
        dim=0, return_inverse=True, return_counts=True)
    means = torch.zeros(len(sizes), dtype=values.dtype)
    means = means.to(values).index_add(0, group, values) / sizes
    within = (values - means[group]).square().sum()
    total = (values - values.mean()).square().sum()
    freedom = (len(values) - 1) / max(len(values) - len(sizes), 1)
    return (1 - within / total * freedom).clamp(min=0)


def cka(x, y):
    """Linear CKA of the features (n, C) and (n, C') of the same n examples.

    Kornblith et al., arXiv 1905.00414.
    """
    x, y = (part - part.mean(0) for part in (x, y))
    norms = (x.mT @ x).norm() * (y.mT @ y).norm()
    return (x.mT @ y).square().sum() / norms


def gram(features):
    """Features (n, C) to their Gram matrix (n, n), centred without bias.

    Song et al., JMLR 2012, eq. 5, as U-centring. The diagonal is left out, so
    that few examples with many channels do not seem alike.
    """
    n = len(features)
    kernel = features @ features.mT
    kernel = kernel - kernel.diagonal().diag()
    rows = kernel.sum(0) / (n - 2)
    kernel = kernel - rows - rows[:, None] + kernel.sum() / ((n - 1) * (n - 2))
    return kernel - kernel.diagonal().diag()


def hsic(grams):
    """Unbiased HSIC of all pairs of layers, (layers, layers).

    Its mean over batches gives the CKA of all images (Nguyen et al., arXiv
    2010.15327).

    Args:
        grams: (layers, n, n), as `gram` gives them.
    """
    flat = grams.flatten(1)
    return flat @ flat.mT / (grams.shape[1] * (grams.shape[1] - 3))


def cka_of(hsic):
    """(layers, layers) of HSIC to CKA."""
    norms = hsic.diagonal().clamp(min=TINY).sqrt()
    return hsic / (norms * norms[:, None])


def regions(tokens, side=4):
    """Means of side x side regions of a map (B, h, w, C), (B side^2, C).

    So layers of different grids have the same examples.
    """
    pooled = F.adaptive_avg_pool2d(tokens.permute(0, 3, 1, 2), side)
    return pooled.permute(0, 2, 3, 1).flatten(0, 2)


def singular_values(covariance):
    """Singular values of centred tokens / sqrt(their number), largest first.

    Args:
        covariance: (C, C) of the tokens.
    """
    return torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0).sqrt()


def effective_rank(values):
    """exp of the entropy of singular values (Roy and Vetterli, 2007)."""
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp()


def outlier_channels(rms):
    """Indices of channels whose root mean square is over 5 medians, (n, )."""
    return (rms > OUTLIER * rms.median()).nonzero()[:, 0]


def colours(patches):
    """First three principal components of all patches as RGB, 0-1.

    Args:
        patches: (B, h, w, C).

    Returns:
        (B, h, w, 3). Each component is stretched between its percentiles 1
        and 99, with the sign that makes its longer tail bright.
    """
    flat = patches.flatten(0, 2)
    flat = flat - flat.mean(0)
    _, _, axes = torch.linalg.svd(flat, full_matrices=False)
    parts = flat @ axes[:3].mT  # (B h w, 3)
    parts = parts * parts.pow(3).sum(0).sign()
    low, high = parts.quantile(torch.tensor([0.01, 0.99]).to(parts), dim=0)
    parts = ((parts - low) / (high - low)).clamp(0, 1)
    return parts.unflatten(0, patches.shape[:3])
