"""Feed-forward networks that keep less for their backward."""
import weakref

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN

from mmfd.feed_forward import feed_forward


def ffn(**kwargs):
    torch.manual_seed(0)
    return FFN(24, 96, act_cfg=dict(type='GELU'), add_identity=False, **kwargs)


def followed(network, forward, dtype):
    """Output, gradients, and whether the GELU's output was kept."""
    seen = []
    handle = network.layers[0][1].register_forward_hook(
        lambda _, __, out: seen.append(weakref.ref(out)))
    x = torch.randn(2, 5, 24, generator=torch.manual_seed(1)).requires_grad_()
    with torch.autocast('cpu', torch.bfloat16, dtype == 'bf16'):
        out = forward(network, x)
    handle.remove()
    kept = seen[0]() is not None
    out.float().square().sum().backward()
    return out, [x.grad, *(p.grad for p in network.parameters())], kept


@pytest.mark.parametrize('dtype', ['fp32', 'bf16'])
def test_gradients_are_the_hosts_and_the_gelu_keeps_its_input_only(dtype):
    ours = followed(ffn(), feed_forward, dtype)
    host = followed(ffn(), FFN.forward, dtype)
    assert torch.equal(ours[0], host[0])
    for grad, expected in zip(ours[1], host[1], strict=True):
        assert expected.any() and torch.equal(grad, expected)
    assert host[2] and not ours[2]


def test_dropout_is_drawn_once():
    network = ffn(ffn_drop=0.5)
    torch.manual_seed(2)
    ours = followed(network, feed_forward, 'fp32')
    torch.manual_seed(2)
    host = followed(ffn(ffn_drop=0.5), FFN.forward, 'fp32')
    for grad, expected in zip(ours[1], host[1], strict=True):
        assert torch.equal(grad, expected)
