"""The forward of a frozen network, against calling the network."""
import copy

import pytest
import torch
from helpers.models import clip_teacher, dino_teacher, esvit_teacher
from mmengine.registry import MODELS
from torch import nn

from mmfd.fast.frozen import FrozenForward
from mmfd.hosts import kernels


def frozen(config):
    network = MODELS.build(config.backbone)
    network.eval()
    network.requires_grad_(False)
    for param in network.parameters():
        nn.init.normal_(param, std=0.1)
    return network


@pytest.mark.parametrize('make', [clip_teacher, dino_teacher, esvit_teacher])
def test_tokens_are_those_of_the_network(make):
    network = frozen(make())
    images = torch.randn(3, 3, *[make().backbone.img_size] * 2)
    with torch.no_grad():
        [expected] = network(images)
        [out] = FrozenForward(copy.deepcopy(network))(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_weights_are_copied_once_and_again_when_they_were_replaced():
    network = frozen(dino_teacher())
    forward, images = FrozenForward(network), torch.randn(2, 3, 32, 32)
    assert not forward.copies()
    with torch.no_grad():
        forward(images)
        copies = forward.copies()
        forward(images[:1])
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert len(copies) == len(linear)
    assert all(copy.is_mkldnn == kernels.can_pack(torch.float32)
               for copy in copies)
    assert all(a is b for a, b in zip(copies, forward.copies(), strict=True))
    forward.weights_replaced()
    assert not forward.copies()
