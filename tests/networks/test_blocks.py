"""How deep a weight lies, for layer decay of any library's network."""
import pytest
from mmengine.registry import MODELS


def depths(name, **model_args):
    """Name of a parameter to its depth; how many depths there are."""
    network = MODELS.build(
        dict(type='mmfd.TimmNetwork', name=name, model_args=model_args))
    names = [name for name, _ in network.named_parameters()]
    found = {
        name.removeprefix('network.'):
        network.get_layer_depth(f'backbone.{name}', 'backbone.')
        for name in names
    }
    assert len({count for _, count in found.values()}) == 1
    return {name: depth for name, (depth, _) in found.items()}, count_of(found)


def count_of(found):
    return next(iter(found.values()))[1]


def test_depths_of_a_vit_are_those_of_its_blocks():
    found, count = depths('vit_tiny_patch16_224', depth=3)
    assert count == 5
    assert {
        found[x]
        for x in ('cls_token', 'pos_embed', 'patch_embed.proj.weight')
    } == {0}
    assert [found[f'blocks.{i}.mlp.fc1.weight'] for i in range(3)] == [1, 2, 3]
    assert found['norm.weight'] == 4


@pytest.mark.parametrize('name, args', [
    ('convnext_atto', dict(depths=(1, 1, 2, 1))),
    ('swin_tiny_patch4_window7_224', dict(depths=(1, 1, 2, 1))),
])
def test_depths_grow_through_the_stages(name, args):
    found, count = depths(name, **args)
    assert count == 7
    assert [*found.values()] == sorted(found.values())
    assert {*found.values()} == {*range(7)}
