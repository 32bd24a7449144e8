"""Measures of representations: pure functions, each a mean over images.

Letters as in `mmfd.distillation`; W windows in an image, N = L - extra
patches of a window, and attention weights (B, W, H, L, L) with a row for each
query.
"""
import torch
import torch.nn.functional as F

TINY = 1e-30  # least weight that a logarithm sees
OUTLIER = 5  # times the median makes a channel an outlier


def attention_distance(weights, positions, extra, renormalise=True):
    """How far patches look on average, per head (FD, fig. 2).

    Args:
        positions: (W, N, 2) in pixels.
        renormalise (bool): rows of patches sum to one without the extra
            tokens. False: what goes to these counts as distance 0.

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
    """Cosine between the whole maps of two heads, (H, H) (FD, fig. 3)."""
    maps = F.normalize(weights.transpose(1, 2).flatten(2), dim=-1)
    return (maps @ maps.mT).mean(0)


def head_divergence(weights):
    """KL of two heads' rows, and every head's entropy, in nats.

    After Xie et al., arXiv 2205.13543. Weights below 1e-30 count as that.

    Returns:
        (H, H), row the first argument of KL, and (H, ).
    """
    rows = weights.transpose(2, 3)  # (B, W, L, H, L)
    cross = (rows @ rows.clamp(min=TINY).log().mT).mean((0, 1, 2))  # (H, H)
    own = cross.diagonal()
    return own[:, None] - cross, -own


def off_diagonal(matrix):
    """Mean over the pairs of (H, H); nan where there is but one head."""
    count = len(matrix)
    total = matrix.sum() - matrix.diagonal().sum()
    return total / (count * (count - 1))


def share_by_offset(average, positions):
    """Share of a mean map's variance that key minus query explains.

    One of a map that moves along with its query, which translation
    equivariance asks for (FD, fig. 4).

    Args:
        average: (W, N, N), patches alone.
    """
    offsets = positions[:, None] - positions[:, :, None]  # (W, N, N, 2)
    return explained(average, offsets.round().long())


def share_by_key(average, positions):
    """The same of the key alone: one where all queries look at one place."""
    keys = positions[:, None].expand(-1, positions.shape[1], -1, -1)
    return explained(average, keys.round().long())


def explained(values, labels):
    """Share of variance between groups, adjusted for how many there are.

    Adjusted, so that grouping explains nothing of noise; never below 0.

    Args:
        values: (...).
        labels: (..., n) int, the same where values are of one group.
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
    """Linear CKA of two sets of features (n, C) and (n, C') of n examples.

    Kornblith et al., arXiv 1905.00414.
    """
    x, y = (part - part.mean(0) for part in (x, y))
    own = (x.mT @ x).norm() * (y.mT @ y).norm()
    return (x.mT @ y).square().sum() / own


def gram(features):
    """(n, C) to what `hsic` multiplies: (n, n), centred without bias.

    Song et al., JMLR 2012, eq. 5, as U-centring. Its diagonal is left out of
    account, so that few examples of many channels are not called alike.
    """
    n = len(features)
    kernel = features @ features.mT
    kernel = kernel - kernel.diagonal().diag()
    rows = kernel.sum(0) / (n - 2)
    kernel = kernel - rows - rows[:, None] + kernel.sum() / ((n - 1) * (n - 2))
    return kernel - kernel.diagonal().diag()


def hsic(grams):
    """Of all pairs of layers (layers, n, n): (layers, layers), unbiased.

    Means over batches of it make the CKA of all images (Nguyen et al., arXiv
    2010.15327).
    """
    flat = grams.flatten(1)
    return flat @ flat.mT / (grams.shape[1] * (grams.shape[1] - 3))


def cka_of(hsic):
    """(layers, layers) of HSIC to CKA."""
    own = hsic.diagonal().clamp(min=TINY).sqrt()
    return hsic / (own * own[:, None])


def regions(tokens, side=4):
    """A map (B, h, w, C) to means of side x side regions, (B side^2, C).

    So layers of any grid have the same examples.
    """
    pooled = F.adaptive_avg_pool2d(tokens.permute(0, 3, 1, 2), side)
    return pooled.permute(0, 2, 3, 1).flatten(0, 2)


def singular_values(covariance):
    """Of centred tokens, largest first, divided by sqrt(how many)."""
    return torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0).sqrt()


def effective_rank(values):
    """exp of the entropy of singular values (Roy and Vetterli, 2007)."""
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp()


def outlier_channels(rms):
    """Channels whose root mean square is over 5 medians, (n, ) int."""
    return (rms > OUTLIER * rms.median()).nonzero()[:, 0]


def colours(patches):
    """First three principal components of maps as RGB, 0 to 1.

    Args:
        patches: (B, h, w, C), seen as one set.

    Returns:
        (B, h, w, 3). Each component is stretched to its percentiles 1-99;
        its sign is such that the longer tail is bright.
    """
    flat = patches.flatten(0, 2)
    flat = flat - flat.mean(0)
    _, _, axes = torch.linalg.svd(flat, full_matrices=False)
    parts = flat @ axes[:3].mT  # (B h w, 3)
    parts = parts * parts.pow(3).sum(0).sign()
    low, high = parts.quantile(torch.tensor([0.01, 0.99]).to(parts), dim=0)
    parts = ((parts - low) / (high - low)).clamp(0, 1)
    return parts.unflatten(0, patches.shape[:3])
