"""The layer of HTC++ after the last stage: it begins as nothing."""
import torch
from mmengine.registry import MODELS


def layer():
    torch.manual_seed(0)
    built = MODELS.build(
        dict(type='mmfd.GlobalAttention', channels=8, num_heads=2))
    built.init_weights()
    return built


MAPS = [torch.randn(2, 4, 6, 10), torch.randn(2, 8, 3, 5)]


def test_it_begins_as_the_identity_and_learns():
    attention = layer()
    before, last = attention(MAPS)
    assert before is MAPS[0] and torch.equal(last, MAPS[1])
    last.square().sum().backward()
    assert attention.attn.proj.weight.grad.any()


def test_it_is_softmax_attention_over_the_whole_last_map():
    attention = layer()
    torch.nn.init.normal_(attention.attn.proj.weight)
    x = MAPS[1].flatten(2).transpose(1, 2).double()  # (2, 15, 8)
    normed = (x - x.mean(-1, keepdim=True)) / (
        x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    qkv = normed @ attention.attn.qkv.weight.T.double()
    qkv = (qkv + attention.attn.qkv.bias.double()).view(2, 15, 3, 2, 4)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    scores = torch.softmax(q @ k.transpose(-1, -2) / 2, -1)  # 4 ** 0.5
    mixed = (scores @ v).transpose(1, 2).flatten(2)
    expected = x + mixed @ attention.attn.proj.weight.T.double()
    got = attention(MAPS)[1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
