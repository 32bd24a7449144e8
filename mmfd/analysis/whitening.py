"""Which normalisation suits the tokens of a teacher?

Smooth-L1 weights a channel, and a token, by its squared distance from the mean
target. The more evenly these weights are spread, the more of the target the
loss sees: that number decides what is recommended.
"""
import torch
import torch.nn.functional as F

from mmfd.analysis.measures import (effective_rank, outlier_channels,
                                    singular_values)


def standardise(tokens):
    """Give each channel zero mean and unit variance over all tokens."""
    flat = tokens.flatten(0, -2)
    deviation = flat.std(0, correction=0)
    return (tokens - flat.mean(0)) / deviation.clamp(min=1e-6)


# name -> function of tokens (B, n, C), applied to what the teacher gives
CHOICES = dict(
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
CLEARLY = 1.25  # times as even as whitening: recommended in its place


def evenness(energy):
    """Participation ratio of energies (n, ) / n: 1 if all are equal."""
    return (energy.sum()**2 / energy.square().sum() / len(energy)).item()


def describe(patches, cls_tokens):
    """Scale, outliers, rank and evenness of targets.

    Args:
        patches: (B, n, C).
        cls_tokens: (B, C), or (B, 0) if there are none.

    Returns:
        dict: numbers; `channels`: standard deviations, sorted.
    """
    flat = patches.flatten(0, 1).double()
    centred = flat - flat.mean(0)
    covariance = centred.mT @ centred / len(flat)
    std, energy = covariance.diagonal().sqrt(), centred.square()
    lengths = flat.norm(dim=1)
    rms = flat.square().mean(0).sqrt()
    numbers = dict(
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
    numbers['even'] = numbers['even_channels'] * numbers['even_tokens']
    if cls_tokens.shape[1]:
        cls_norm = cls_tokens.double().norm(dim=1).mean()
        numbers['cls_over_patch_norm'] = (cls_norm / lengths.mean()).item()
    return numbers


def advise(patches, cls_tokens):
    """Describe a teacher's tokens under each choice, and recommend one.

    Args:
        patches: (B, n, C).
        cls_tokens: (B, C), or (B, 0) if there are none.

    Returns:
        dict: `choices`, name -> `describe`; `recommended`, a name; `reason`,
        a sentence.
    """
    has_cls = cls_tokens.shape[1] > 0
    tokens = patches
    if has_cls:
        tokens = torch.cat([cls_tokens[:, None], patches], 1)
    choices = {}
    for name, apply in CHOICES.items():
        target = apply(tokens)
        choices[name] = describe(target[:, has_cls:],
                                 target[:, 0] if has_cls else cls_tokens)
    best = max(choices, key=lambda name: choices[name]['even'])
    if choices[best]['even'] < CLEARLY * choices['whitening']['even']:
        best = 'whitening'
    return dict(
        choices=choices, recommended=best, reason=_reason(choices, best))


def _reason(choices, best):
    even = {name: f'{target["even"]:.0%}' for name, target in choices.items()}
    none, outliers = choices['none'], choices['whitening']['outlier_channels']
    text = ("The teacher's features spread their energy over "
            f'{even["none"]} of channels and tokens as they are (channels '
            f'{none["even_channels"]:.0%}, tokens {none["even_tokens"]:.0%}), '
            f"over {even['whitening']} after FD's whitening")
    if best != 'whitening':
        text += f', over {even[best]} with "{TITLES[best]}", clearly more'
    if outliers:
        text += (f'. Whitening works on each token by itself, so '
                 f'{len(outliers)} outlier channels of all tokens remain')
    return f'{text}. In the config, teacher.{NECKS[best]}.'
