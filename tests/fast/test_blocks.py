"""The students' blocks, against the formulas in their docstrings."""
import pytest
import torch
from helpers.models import (arch, distillation, downstream, student,
                            swin_student)
from mmengine.registry import MODELS
from torch import nn


def followed(block, forward, x, *args):
    """Output, and gradients by name."""
    torch.manual_seed(1)  # for drop path: the host draws the same images
    x = x.clone().requires_grad_()
    block.zero_grad()
    out = forward(x, *args)
    out.square().sum().backward()
    return dict(
        {
            name: param.grad
            for name, param in block.named_parameters()
            if param.grad is not None
        },
        out=out,
        x=x.grad)


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(
            ours[name],
            expected,
            rtol=0,
            atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize('bias', ['of the block', 'of all blocks', 'none'])
def test_block_of_a_vit_is_the_hosts(bias, with_cp):
    config = downstream() if bias == 'of the block' else student(
        use_shared_rel_pos_bias=bias == 'of all blocks')
    ours = MODELS.build(dict(config, with_cp=with_cp)).layers[1]
    theirs = MODELS.build(dict(config, type='mmpretrain.BEiTViT')).layers[1]
    for param in ours.parameters():
        nn.init.normal_(param, std=0.1)
    theirs.load_state_dict(ours.state_dict())
    shared = torch.randn(3, 17, 17) if bias == 'of all blocks' else None
    x = torch.randn(2, 17, 48)
    assert_same(
        followed(ours, ours, x, shared), followed(theirs, theirs, x, shared))


@pytest.mark.parametrize('with_cp', [False, True])
def test_block_of_a_swin_drops_behind_its_norms(with_cp):
    config = swin_student(drop_path_rate=0.5, with_cp=with_cp)
    block = MODELS.build(config).train().stages[1].blocks[1]
    for param in block.parameters():
        nn.init.normal_(param, std=0.5)
    x = torch.randn(6, 64, 48)

    def plain(x, hw_shape):
        x = x + block.drop_path(block.norm1(block.attn(x, hw_shape)))
        return x + block.drop_path(block.norm2(block.ffn(x)))

    assert_same(
        followed(block, block, x, (8, 8)), followed(block, plain, x, (8, 8)))


def test_step_in_bf16_is_near_that_in_fp32():
    model = MODELS.build(distillation(backbone=student(arch=arch(48, 3, 3))))
    model.init_weights()
    pixels = torch.randint(0, 256, (8, 3, 32, 32)).float()
    found = []
    for bf16 in (False, True):
        model.train().zero_grad()
        with torch.autocast('cpu', torch.bfloat16, bf16):
            loss = model.loss(pixels)['loss']
        loss.backward()
        found.append(
            (loss.detach(),
             [p.grad.flatten() for p in model.parameters() if p.ndim > 1]))
    (loss, grads), (half, half_grads) = found
    assert abs(half - loss) < 2e-3 * loss
    grads, half_grads = torch.cat(grads), torch.cat(half_grads)
    assert (half_grads - grads).norm() < 0.05 * grads.norm()
