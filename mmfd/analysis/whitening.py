"""Is a teacher well whitened? What each target would ask a student to learn.

Smooth-L1 looks at a channel, and at a token, in proportion to its squared
distance from the mean target. How evenly it so looks at all of them is one
number, and the recommendation goes by it.
"""
import torch
import torch.nn.functional as F

from mmfd.analysis.measures import (effective_rank, outlier_channels,
                                    singular_values)


def standardise(tokens):
    """Every channel of zero mean and unit variance, over all tokens."""
    flat = tokens.flatten(0, -2)
    deviation = flat.std(0, correction=0)
    return (tokens - flat.mean(0)) / deviation.clamp(min=1e-6)


CHOICES = dict(  # name -> (B, n, C) to the same, after the teacher's own norm
    none=lambda tokens: tokens,
    whitening=lambda tokens: F.layer_norm(tokens, tokens.shape[-1:]),
    l2=lambda tokens: F.normalize(tokens, dim=-1),
    standardise=standardise)
TITLES = dict(
    none='none',
    whitening="FD's whitening",
    l2='unit length',
    standardise='per channel')
NECKS = dict(
    none="neck=dict(type='mmfd.PlainNeck')",
    whitening="neck=dict(type='mmfd.WhiteningNeck')",
    l2="neck=dict(type='mmfd.L2Neck')",
    standardise="neck=dict(type=...), of your own: per channel")
CLEARLY = 1.25  # times more even than whitening, to be recommended instead


def evenness(energy):
    """Share of parts that would be as many if all were alike, 0 to 1."""
    return (energy.sum()**2 / energy.square().sum() / len(energy)).item()


def describe(patches, cls_tokens):
    """Scale, outliers and rank of targets.

    Args:
        patches: (B, n, C).
        cls_tokens: (B, C), or (B, 0) where there are none.

    Returns:
        dict: numbers, and `channels`, the standard deviations, sorted.
    """
    flat = patches.flatten(0, 1).double()
    centred = flat - flat.mean(0)
    covariance = centred.mT @ centred / len(flat)
    std, energy = covariance.diagonal().sqrt(), centred.square()
    lengths = flat.norm(dim=1)
    rms = flat.square().mean(0).sqrt()
    found = dict(
        rms=flat.square().mean().sqrt().item(),
        linear_share=(flat.abs() > 2).double().mean().item(),
        token_norm_variation=(lengths.std() / lengths.mean()).item(),
        largest_channel_share=(std.square().max() / std.square().sum()).item(),
        largest_channel_over_median=(rms.max() / rms.median()).item(),
        outlier_channels=outlier_channels(rms).tolist(),
        effective_rank=effective_rank(singular_values(covariance)).item(),
        even_channels=evenness(energy.mean(0)),
        even_tokens=evenness(energy.mean(1)),
        channels=std.sort(descending=True).values.tolist())
    found['even'] = found['even_channels'] * found['even_tokens']
    if cls_tokens.shape[1]:
        cls_norm = cls_tokens.double().norm(dim=1).mean()
        found['cls_over_patch_norm'] = (cls_norm / lengths.mean()).item()
    return found


def advise(patches, cls_tokens):
    """What each choice makes of a teacher's tokens, and which to take.

    Returns:
        dict: `choices`, name -> `describe`; `recommended`, a name; `reason`.
    """
    has_cls = cls_tokens.shape[1] > 0
    rows = torch.cat([cls_tokens[:, None], patches], 1) if has_cls else patches
    choices = {}
    for name, apply in CHOICES.items():
        made = apply(rows)
        choices[name] = describe(made[:, has_cls:],
                                 made[:, 0] if has_cls else cls_tokens)
    best = max(choices, key=lambda name: choices[name]['even'])
    if choices[best]['even'] < CLEARLY * choices['whitening']['even']:
        best = 'whitening'
    return dict(
        choices=choices, recommended=best, reason=_reason(choices, best))


def _reason(choices, best):
    even = {name: f'{found["even"]:.0%}' for name, found in choices.items()}
    own, outliers = choices['none'], choices['whitening']['outlier_channels']
    text = ("Of what it could, the teacher's features spread their energy "
            f'over {even["none"]} as they are (channels '
            f'{own["even_channels"]:.0%}, tokens {own["even_tokens"]:.0%}), '
            f"over {even['whitening']} after FD's whitening")
    if best != 'whitening':
        text += f', over {even[best]} with "{TITLES[best]}", clearly more'
    if outliers:
        text += (f'. Whitening works on each token, so {len(outliers)} '
                 'outlier channels of all tokens remain')
    return f'{text}. In the config, teacher.{NECKS[best]}.'
