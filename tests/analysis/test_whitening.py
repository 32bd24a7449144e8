"""The normaliser that suits a target is recommended, and why."""
import pytest
import torch

from mmfd.analysis import whitening

NO_CLS = torch.zeros(64, 0)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_whitening_is_recommended_for_tokens_of_different_scale():
    patches = torch.randn(64, 16, 32) * torch.rand(64, 16, 1).add(0.3).pow(3)
    advice = whitening.advise(10 * patches, torch.randn(64, 32) * 90)
    choices = advice['choices']
    assert advice['recommended'] == 'layer_norm'
    assert choices['none']['even_tokens'] < 0.4
    assert choices['layer_norm']['even_tokens'] > 0.99
    assert choices['layer_norm']['rms'] == pytest.approx(1, abs=1e-3)
    assert choices['none']['cls_over_patch_norm'] > 5
    assert choices['layer_norm']['cls_over_patch_norm'] == pytest.approx(
        1, abs=0.01)
    assert choices['l2']['rms'] == pytest.approx(32**-0.5)


def test_standardising_is_recommended_for_outlier_channels():
    patches = torch.randn(64, 16, 32)
    patches[..., [5, 9]] *= 8
    advice = whitening.advise(patches, NO_CLS)
    assert advice['recommended'] == 'standardize'
    assert advice['choices']['none']['outlier_channels'] == [5, 9]
    assert '2 outlier channels' in advice['reason']
    assert "normalize='standardize', statistics=FILE" in advice['reason']


def test_phi_s_is_recommended_for_few_directions_of_even_tokens():
    """Decorrelating would raise the noise, to 29 of 32 directions."""
    basis = torch.linalg.qr(torch.randn(32, 32))[0]
    strong = torch.nn.functional.normalize(torch.randn(64, 16, 3), dim=-1)
    noise = 0.01 * torch.randn(64, 16, 29)
    patches = torch.cat((strong, noise), -1) @ basis + 5 * torch.eye(32)[3]
    advice = whitening.advise(patches, NO_CLS)
    choices = advice['choices']
    assert choices['zca']['even'] > choices['phi_s']['even_tokens'] / 2
    assert choices['zca']['faint_share'] == pytest.approx(29 / 32, abs=0.02)
    assert choices['phi_s']['faint_share'] < 0.01
    assert choices['phi_s']['even_channels'] == pytest.approx(1, abs=1e-3)
    assert advice['recommended'] == 'phi_s'


def test_channels_share_the_loss_by_their_variance():
    patches = torch.randn(64, 16, 4) * torch.tensor([1., 2., 3., 0.])
    choices = whitening.advise(patches + 10, NO_CLS)['choices']
    variances = patches.flatten(0, 1).var(0)
    assert choices['none']['channel_shares'] == pytest.approx(
        (variances / variances.sum()).tolist(), rel=1e-4)
    assert choices['none']['largest_channel_share'] == max(
        choices['none']['channel_shares'])
    assert choices['standardize']['channel_shares'] == pytest.approx(
        [1 / 3, 1 / 3, 1 / 3, 0], abs=1e-4)
    assert choices['phi_s']['channel_shares'] == pytest.approx(
        [1 / 4] * 4, abs=1e-4)


def test_artifact_patches_are_counted_with_what_they_get_of_the_loss():
    """One patch in 64, of length 10 where all others are of length 1."""
    patches = torch.nn.functional.normalize(torch.randn(64, 16, 32), dim=-1)
    patches[::4, 3] *= 10
    advice = whitening.advise(patches, NO_CLS)
    choices = advice['choices']
    assert advice['artifact_share'] == 1 / 64
    assert choices['none']['artifact_loss_share'] == pytest.approx(
        100 / 163, abs=0.01)
    assert choices['layer_norm']['artifact_loss_share'] == pytest.approx(
        1 / 64, abs=2e-3)
    assert advice['recommended'] == 'layer_norm'
    assert "1.56% of the patches" in advice['reason']
    assert "artifacts=dict(action='mask')" in advice['reason']
    even = whitening.advise(patches / patches.norm(dim=-1, keepdim=True),
                            NO_CLS)
    assert even['artifact_share'] == 0 and 'artifacts' not in even['reason']
