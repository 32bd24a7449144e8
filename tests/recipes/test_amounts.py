"""How long a run is, and in which batches, follows from its images."""
import pytest

from mmfd.errors import Refused
from mmfd.recipes.amounts import DISTILLATION, FINE_TUNING, choose


@pytest.mark.parametrize(
    'known, images, epochs, batch_size',
    [
        (DISTILLATION, 6_000, 40, 32),  # as configs/demo/simclr_fd_finished.py
        (DISTILLATION, 1_281_167, 30, 128),
        (DISTILLATION, 10, 1000, 10),
        (FINE_TUNING, 500, 100, 32),
    ])
def test_few_images_are_seen_more_often(known, images, epochs, batch_size):
    chosen = choose(known, images, width=96, amp=False)
    assert (chosen.epochs, chosen.batch_size) == (epochs, batch_size)


@pytest.mark.parametrize('width, lr', [(48, 2e-3), (96, 2e-3), (384, 5e-4),
                                       (2048, 2.5e-4)])
def test_wide_networks_learn_at_lower_rates(width, lr):
    assert choose(DISTILLATION, 6_000, width).lr == pytest.approx(lr)


@pytest.mark.parametrize(
    'images, width, epochs, batch_size, lr',
    [
        (20, 192, 1000, 20, 1e-3),  # all of them in one batch
        (240, 192, 1000, 32, 1e-3),
        (5_000, 96, 48, 32, 2e-3),
        (5_000, 192, 48, 32, 1e-3),
        (5_000, 512, 48, 32, 3.75e-4),
        (5_000, 768, 48, 32, 2.5e-4),
        (19_999, 192, 30, 32, 1e-3),
        (20_000, 192, 30, 128, 1e-3),
        (1_281_167, 768, 30, 128, 2.5e-4),
    ])
def test_defaults_of_a_distillation(images, width, epochs, batch_size, lr):
    """240,000 passes in 30 to 1000 epochs; 2e-3 x 96 / width, 2.5e-4 or more.

    The rate is that of the updates as they are, whatever their batch: the
    config states it per 512 images, and training scales it back.
    """
    chosen = choose(DISTILLATION, images, width, amp=False)
    assert chosen[:2] == (epochs, batch_size)
    assert chosen.lr == pytest.approx(lr)
    assert chosen.warmup == pytest.approx(epochs / 20)
    written = {}
    exec(chosen.settings(), written)
    curve = written['default_hooks']['param_scheduler']
    rates = written['lr'], curve['warmup_lr'], curve['min_lr']
    assert [rate * batch_size / 512
            for rate in rates] == pytest.approx([lr, lr / 1000, lr / 100])


@pytest.mark.parametrize('batch_size', [8, 32, 1024])
def test_batch_that_is_asked_for_changes_no_rate_and_no_epochs(batch_size):
    chosen = choose(DISTILLATION, 6_000, 96, batch_size=batch_size)
    assert chosen[:3] == (40, batch_size, 2e-3)


def test_what_is_asked_for_is_taken_and_not_explained():
    chosen = choose(DISTILLATION, 100, 96, 7, 5, 0.1, True)
    assert chosen[:3] == (7, 5, 0.1) and chosen.why == []
    assert chosen.wrapper == 'mmfd.AmpOptimWrapper'


@pytest.mark.parametrize('name', ['epochs', 'batch_size', 'lr'])
@pytest.mark.parametrize('value', [0, -1, float('nan'), float('inf')])
def test_numbers_that_are_none_are_refused(name, value):
    with pytest.raises(Refused, match=f'{name}=.*above 0'):
        choose(DISTILLATION, 100, 96, **{name: value})


def test_rate_in_the_config_is_that_of_the_batch():
    chosen = choose(DISTILLATION, 100, 96, 20, 8, 0.5, False)
    written = {}
    exec(chosen.settings(), written)
    assert written['optim_wrapper']['optimizer']['lr'] * 8 / 512 == 0.5
    assert written['train_cfg'] == dict(max_epochs=20, val_interval=2)
