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
