"""The normalisation that suits a target is recommended."""
import pytest
import torch

from mmfd.analysis import whitening


def test_whitening_is_recommended_for_tokens_of_different_scale():
    patches = torch.randn(64, 16, 32) * torch.rand(64, 16, 1).add(0.3).pow(3)
    advice = whitening.advise(10 * patches, torch.randn(64, 32) * 90)
    choices = advice['choices']
    assert advice['recommended'] == 'whitening'
    assert choices['none']['even_tokens'] < 0.4
    assert choices['whitening']['even_tokens'] > 0.99
    assert choices['whitening']['rms'] == pytest.approx(1, abs=1e-3)
    assert choices['none']['cls_over_patch_norm'] > 5
    assert choices['whitening']['cls_over_patch_norm'] == pytest.approx(
        1, abs=0.01)
    assert choices['l2']['rms'] == pytest.approx(32**-0.5)


def test_standardising_is_recommended_for_outlier_channels():
    patches = torch.randn(64, 16, 32)
    patches[..., 5] *= 40
    advice = whitening.advise(patches, torch.zeros(64, 0))
    assert advice['recommended'] == 'standardise'
    assert advice['choices']['none']['outlier_channels'] == [5]
    assert '1 outlier channels' in advice['reason']
