"""Which normaliser suits the tokens of a teacher?

Smooth-L1 weights a channel, and a token, by its squared distance from the mean
target. The more evenly these weights are spread, the more of the target the
loss sees. But decorrelating also raises directions that a teacher hardly uses.
What the loss gives to these is taken off, and the rest decides what is
recommended.
"""
import torch

from mmfd.analysis.measures import (effective_rank, outlier_channels,
                                    singular_values)
from mmfd.targets import artifact_tokens
from mmfd.targets.normalizers import NORMALIZERS
from mmfd.targets.token_statistics import TokenMoments, TokenStatistics

# What is compared, simple ones first. `running` ends as `standardize`, and
# `pca` is `zca`, rotated.
TITLES = dict(
    layer_norm="FD's whitening",
    none='none',
    l2='unit length',
    phi_s='PHI-S',
    standardize='per channel',
    zca='ZCA')
CLEARLY = 1.25  # times as good: recommended in the place of a simpler one
FAINT = 0.01  # of the variance: what the faintest directions have together


def _normalizers(tokens):
    """name -> function (B, n, C) -> (B, n, C), by statistics of `tokens`."""
    moments = TokenMoments()
    moments.add(tokens)
    statistics = TokenStatistics(moments.mean, moments.covariance(),
                                 moments.count, len(tokens), '', '', '')
    return {
        name: kind.of(statistics) if kind.of_file else kind()
        for name, kind in ((name, NORMALIZERS[name]) for name in TITLES)
    }


def _without_faint(tokens):
    """Tokens without the directions that have `FAINT` of their variance."""
    flat = tokens.flatten(0, 1).double()
    mean = flat.mean(0)
    values, vectors = torch.linalg.eigh((flat - mean).T.cov())
    values = values.clamp(min=0)
    strong = vectors[:, values.cumsum(0) > FAINT * values.sum()]
    kept = (flat - mean) @ strong @ strong.mT + mean
    return kept.float().view_as(tokens)


def _share(part, whole):
    return (part.sum() / whole.sum().clamp(min=1e-30)).item()


def evenness(energy):
    """Participation ratio of energies (n, ) / n: 1 if all are equal."""
    return (energy.sum()**2 / energy.square().sum() / len(energy)).item()


def describe(patches, cls_tokens, without_faint, artifacts):
    """Scale, outliers, rank and evenness of targets.

    Args:
        patches: (B, n, C).
        cls_tokens: (B, C), or (B, 0) if there are none.
        without_faint: (B, n, C), of patches without their faint directions.
        artifacts: (B, n), which patches are far longer than the others.

    Returns:
        dict: numbers; `channel_shares`: the share of the loss of each
        channel.
    """
    flat = patches.flatten(0, 1).double()
    centred = flat - flat.mean(0)
    covariance = centred.mT @ centred / len(flat)
    energy = centred.square()
    lengths = flat.norm(dim=1)
    rms = flat.square().mean(0).sqrt()
    numbers = dict(
        rms=flat.square().mean().sqrt().item(),
        linear_share=(flat.abs() > 2).double().mean().item(),
        token_norm_variation=(lengths.std() / lengths.mean()).item(),
        channel_shares=(energy.sum(0) / energy.sum()).tolist(),
        artifact_loss_share=_share(energy[artifacts.flatten()], energy),
        faint_share=_share((patches - without_faint).square(), energy),
        largest_channel_over_median=(rms.max() / rms.median()).item(),
        outlier_channels=outlier_channels(rms).tolist(),
        effective_rank=effective_rank(singular_values(covariance)).item(),
        even_channels=evenness(energy.mean(0)),
        even_tokens=evenness(energy.mean(1)))
    numbers['largest_channel_share'] = max(numbers['channel_shares'])
    numbers['even'] = numbers['even_channels'] * numbers['even_tokens']
    numbers['score'] = numbers['even'] * max(0., 1 - numbers['faint_share'])
    if cls_tokens.shape[1]:
        cls_norm = cls_tokens.double().norm(dim=1).mean()
        numbers['cls_over_patch_norm'] = (cls_norm / lengths.mean()).item()
    return numbers


def advise(patches, cls_tokens):
    """Describe a teacher's tokens under each normaliser, and recommend one.

    Args:
        patches: (B, n, C).
        cls_tokens: (B, C), or (B, 0) if there are none.

    Returns:
        dict: `choices`, name -> `describe`; `recommended`, a name; `reason`,
        sentences; `artifact_share` of the patches.
    """
    has_cls = cls_tokens.shape[1] > 0
    tokens, strong = patches, _without_faint(patches)
    if has_cls:
        tokens, strong = (
            torch.cat([cls_tokens[:, None], x], 1) for x in (patches, strong))
    artifacts = artifact_tokens.lengths(patches) > artifact_tokens.LONG
    choices = {}
    for name, normalize in _normalizers(tokens).items():
        target = normalize(tokens)
        choices[name] = describe(target[:, has_cls:],
                                 target[:, 0] if has_cls else cls_tokens,
                                 normalize(strong)[:, has_cls:], artifacts)
    score = {name: target['score'] for name, target in choices.items()}
    best = next(name for name in choices
                if CLEARLY * score[name] >= max(score.values()))
    share = artifacts.float().mean().item()
    return dict(
        choices=choices,
        recommended=best,
        artifact_share=share,
        reason=_reason(choices, best) +
        _on_artifacts(choices[best], best, share))


def _reason(choices, best):
    even = {name: f'{target["even"]:.0%}' for name, target in choices.items()}
    none, outliers = choices['none'], choices['layer_norm']['outlier_channels']
    text = ("The teacher's features spread their energy over "
            f'{even["none"]} of channels and tokens as they are (channels '
            f'{none["even_channels"]:.0%}, tokens {none["even_tokens"]:.0%}), '
            f"over {even['layer_norm']} after FD's whitening")
    if best != 'layer_norm':
        text += f', over {even[best]} with "{TITLES[best]}", clearly more'
    if outliers:
        text += (f'. Whitening works on each token by itself, so '
                 f'{len(outliers)} outlier channels of all tokens remain')
    file = NORMALIZERS[best].of_file
    return (f'{text}. In the config, teacher.neck=dict(type='
            f"'mmfd.TargetNeck', normalize={best!r}" +
            (', statistics=FILE), of mmfd statistics.' if file else ').'))


def _on_artifacts(target, best, share):
    if not share:
        return ''
    action = 'mask' if NORMALIZERS[best].lost else 'clip'
    return (f' {share:.2%} of the patches are longer than '
            f'{artifact_tokens.LONG:g} medians of their image and get '
            f'{target["artifact_loss_share"]:.1%} of the loss: '
            f"artifacts=dict(action={action!r}) in that neck limits them.")
