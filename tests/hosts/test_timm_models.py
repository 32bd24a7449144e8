"""What mmfd relies on of timm."""
import pytest
import torch

from mmfd.errors import Refused
from mmfd.hosts import lookup, timm_models


def test_filter_is_the_one_that_timm_loads_files_with():
    network, read = timm_models.create('vit_small_patch14_dinov2', depth=1)
    weights = dict(network.state_dict(), mask_token=torch.zeros(1, 384))
    assert read(weights, network).keys() == network.state_dict().keys()


def test_a_network_without_a_filter_has_none():
    assert timm_models.create('test_resnet')[1] is None


def test_timm_is_as_it_was_after_a_network_could_not_be_built():
    from timm.models import _builder
    before = _builder.load_pretrained
    with pytest.raises(TypeError):
        timm_models.create('test_vit', no_such_argument=1)
    assert _builder.load_pretrained is before


@pytest.mark.parametrize('name, args, before, last', [
    ('test_vit', dict(reg_tokens=3), (4, 3), False),
    ('vit_small_patch16_dinov3', dict(depth=1), (5, 4), False),
    ('swin_tiny_patch4_window7_224', dict(depths=(1, 1)), (0, 0), True),
    ('test_resnet', dict(), (0, 0), False),
])
def test_attributes_say_how_tokens_lie(name, args, before, last):
    with torch.device('meta'):
        network, _ = timm_models.create(name, **args)
    assert timm_models.prefix_tokens(network) == before
    assert timm_models.is_channels_last(network) is last


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(timm_models, 'find', lambda name: None)
    with pytest.raises(Refused, match='pip install timm'):
        timm_models.create('test_vit')


def test_without_its_loader_the_version_is_named(monkeypatch):
    monkeypatch.setattr(
        timm_models, 'find', lambda name: None
        if name.endswith('load_pretrained') else lookup.find(name))
    with pytest.raises(Refused, match='no models._builder.load_pretrained'):
        timm_models.create('test_vit')
