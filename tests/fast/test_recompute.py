"""What is computed once more, against networks that keep everything."""
import weakref
from functools import partial

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmfd.fast.recompute import feed_forward, normed


class Network(nn.Module):
    """A norm and an FFN, by `way`; it tells which tensors are still there."""

    def __init__(self, way, **kwargs):
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.way, self.refs = nn.LayerNorm(24), way, {}
        self.ffn = FFN(
            24, 96, act_cfg=dict(type='GELU'), add_identity=False, **kwargs)
        nn.init.normal_(self.norm.weight)
        for name, part in zip(('hidden', 'gelu'), self.ffn.layers[0]):
            part.register_forward_hook(partial(self.see, name))

    def see(self, name, _, __, out):
        self.refs[name] = weakref.ref(out)

    def branch(self, x):
        self.see('norm', None, None, x)  # in the dtype of the product
        return feed_forward(self.ffn, x)

    def ours(self, x):
        return normed(self.norm, x, self.branch)

    def plain(self, x):
        x = self.norm(x)
        if torch.is_autocast_enabled('cpu'):
            x = x.bfloat16()
        self.see('norm', None, None, x)
        return self.ffn(x)

    def checkpointed(self, x):
        return checkpoint(self.ours, x, use_reentrant=False)

    def followed(self, dtype):
        """Output, gradients and what was kept."""
        x = torch.randn(2, 5, 24, generator=torch.manual_seed(1))
        x.requires_grad_()
        with torch.autocast('cpu', torch.bfloat16, dtype == 'bf16'):
            out = getattr(self, self.way)(x)
        kept = {name for name, ref in self.refs.items() if ref() is not None}
        out.float().square().sum().backward()
        return out, [x.grad, *(p.grad for p in self.parameters())], kept


@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
@pytest.mark.parametrize('way, kept', [('ours', {'hidden'}),
                                       ('checkpointed', set())])
def test_gradients_are_the_hosts_and_less_is_kept(way, kept, dtype):
    ours = Network(way).followed(dtype)
    host = Network('plain').followed(dtype)
    assert torch.equal(ours[0], host[0])
    for grad, expected in zip(ours[1], host[1], strict=True):
        assert expected.any() and torch.equal(grad, expected)
    assert host[2] == {'hidden', 'gelu', 'norm'}
    assert ours[2] == kept


def test_dropout_is_drawn_once():
    ours = Network('ours', ffn_drop=0.5).followed('fp32')
    host = Network('plain', ffn_drop=0.5).followed('fp32')
    for grad, expected in zip(ours[1], host[1], strict=True):
        assert torch.equal(grad, expected)


@pytest.mark.parametrize('branch', [
    lambda x: torch.bmm(x.transpose(1, 2), x),
    lambda x: x.transpose(1, 2) * x.mT.sigmoid(),
    lambda x: x[:1].exp() * x[1:],
    lambda x: x.mul_(2).square(),
])
def test_gradients_of_any_branch_are_those_without(branch):
    found = []
    for way in partial(normed, branch=branch), lambda n, x: branch(n(x)):
        torch.manual_seed(0)
        norm, x = nn.LayerNorm(24), torch.randn(2, 5, 24, requires_grad=True)
        way(norm, x).square().sum().backward()
        found.append([x.grad, norm.weight.grad, norm.bias.grad])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain)
