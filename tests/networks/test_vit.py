import math

import pytest
import torch
from helpers.models import arch, downstream, student
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.weights import checkpoints


def fd_student(**kwargs):
    model = MODELS.build(student(**kwargs))
    model.init_weights()
    return model


@pytest.mark.parametrize('branch', ['attn', 'ffn'])
def test_drop_path_drops_each_branch_once_and_rescales_the_rest(branch):
    rate, samples = 0.4, 4000
    model = fd_student(arch=arch(layers=3), drop_path_rate=rate).train()
    block = model.layers[-1]  # the rate grows linearly up to this block
    other = {'attn': block.gamma_2, 'ffn': block.gamma_1}[branch]
    torch.nn.init.zeros_(other)  # silence the other branch
    x = torch.randn(1, 17, 48).expand(samples, -1, -1)
    bias = model.rel_pos_bias()
    with torch.no_grad():
        kept = block.eval()(x[:1], bias) - x[:1]
        got = block.train()(x, bias) - x
    dropped = got.abs().amax((1, 2)) == 0
    deviation = math.sqrt(rate * (1 - rate) / samples)
    assert abs(dropped.float().mean() - rate) < 4 * deviation
    survivors = got[~dropped]
    torch.testing.assert_close(
        survivors, (kept / (1 - rate)).expand_as(survivors),
        rtol=1e-3,
        atol=1e-5)


def test_rates_of_drop_path_grow_linearly_from_zero():
    model = fd_student(arch=arch(layers=5), drop_path_rate=0.2)
    rates = [block.drop_path.drop_prob for block in model.layers]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_initial_weights_are_truncated_and_rescaled_by_depth():
    model = fd_student(arch=arch(width=192, layers=4))
    for depth, block in enumerate(model.layers, start=1):
        for weight in (block.attn.proj.weight, block.ffn.layers[1].weight):
            bound = 0.02 / math.sqrt(2 * depth)
            assert weight.abs().max() <= bound
            # a normal cut at one sigma has 0.5396 of its deviation
            assert weight.std().item() == pytest.approx(
                0.5396 * bound, rel=0.02)
        assert block.attn.qkv.weight.abs().max() <= 0.02
        assert block.ffn.layers[0][0].bias.abs().max() == 0
        assert torch.equal(block.gamma_1, torch.full((192, ), 0.1))
    assert 0 < model.cls_token.abs().max() <= 0.02
    assert model.rel_pos_bias.relative_position_bias_table.abs().max() == 0


def test_absolute_positions_begin_as_the_official_ones():
    """Truncated at one standard deviation of 0.02."""
    model = MODELS.build(
        student(use_abs_pos_emb=True, use_shared_rel_pos_bias=False))
    model.init_weights()
    assert model.pos_embed.shape == (1, 17, 48)
    assert 0.019 < model.pos_embed.abs().max() <= 0.02


def test_relative_position_index_is_the_official_one():
    index = fd_student(
        img_size=224, patch_size=16).rel_pos_bias.relative_position_index
    assert index[0, 0] == 731  # cls to cls, of (2 x 14 - 1)^2 + 3 rows
    assert set(index[0, 1:].tolist()) == {729}  # cls to patches
    assert set(index[1:, 0].tolist()) == {730}
    assert index[1, 1] == 13 * 27 + 13  # no offset


def test_host_beit_loads_the_weights_strictly_and_gives_equal_features():
    ours = fd_student()
    torch.nn.init.normal_(ours.rel_pos_bias.relative_position_bias_table)
    host = MODELS.build(dict(student(), type='mmpretrain.BEiTViT'))
    host.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 32, 32)
    host.eval()
    torch.testing.assert_close(
        ours.eval()(images)[0], host(images)[0], rtol=1e-5, atol=1e-5)


def saved_run(tmp_path, **kwargs):
    """A student as a distillation saves it, and its file."""
    model = fd_student(**kwargs)
    torch.nn.init.normal_(model.rel_pos_bias.relative_position_bias_table)
    file = tmp_path / 'epoch_1.pth'
    weights = {f'backbone.{k}': v for k, v in model.state_dict().items()}
    weights['neck.projection.bias'] = torch.zeros(3)
    checkpoints.save(weights, file, {})
    return model, file


def test_shared_bias_is_copied_into_every_block(tmp_path):
    distilled, file = saved_run(tmp_path)
    used = MODELS.build(
        downstream(
            init_cfg=dict(
                type='Pretrained', checkpoint=str(file), prefix='backbone.')))
    used.init_weights()
    shared = distilled.rel_pos_bias.relative_position_bias_table
    for block in used.layers:
        assert torch.equal(block.attn.relative_position_bias_table, shared)
    # before the norms, which differ on purpose, the networks are the same
    distilled.ln1 = torch.nn.Identity()
    images = torch.randn(2, 3, 32, 32)
    tokens = distilled.eval()(images)[0]
    pooled = used.eval()(images)[0]
    torch.testing.assert_close(pooled, used.ln2(tokens[:, 1:].mean(1)))


@pytest.mark.parametrize('change, message', [
    (dict(arch=arch(width=96)), 'another size'),
    (dict(arch=arch(layers=2)), 'layers.2'),
    (dict(patch_size=4), 'img_size and patch_size'),
])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change,
                                                     message):
    _, file = saved_run(tmp_path)
    config = dict(downstream(), **change)
    config['init_cfg'] = dict(
        type='Pretrained', checkpoint=str(file), prefix='backbone.')
    with pytest.raises(Refused, match=message):
        MODELS.build(config).init_weights()


def test_forgotten_prefix_is_named(tmp_path):
    _, file = saved_run(tmp_path)
    model = MODELS.build(
        downstream(init_cfg=dict(type='Pretrained', checkpoint=str(file))))
    with pytest.raises(Refused, match="add prefix='backbone.'"):
        model.init_weights()


def test_image_that_the_patch_does_not_divide_is_refused():
    with pytest.raises(Refused, match='225 is not a multiple of .*16'):
        fd_student(img_size=225, patch_size=16)


def test_cls_token_that_is_not_there_is_refused():
    with pytest.raises(Refused, match="set backbone.out_type='avg_featmap'"):
        fd_student(with_cls_token=False, out_type='cls_token')


def test_image_of_another_size_than_the_network_is_refused():
    with pytest.raises(Refused, match='48 x 32 .* img_size=32'):
        fd_student()(torch.zeros(1, 3, 48, 32))


def test_all_blocks_frozen_leave_the_shared_table_frozen_too():

    def trained(frozen_stages):
        model = MODELS.build(student(frozen_stages=frozen_stages)).train()
        return [n for n, p in model.named_parameters() if p.requires_grad]

    assert trained(3) == []
    assert 'rel_pos_bias.relative_position_bias_table' in trained(2)
    with pytest.raises(Refused, match='frozen_stages=4 of a backbone of 3 bl'):
        trained(4)


def test_frozen_blocks_drop_no_paths():
    model = MODELS.build(student(frozen_stages=2, drop_path_rate=0.5))
    modes = [[m.training for m in layer.modules()]
             for layer in model.train().layers]
    assert not any(modes[0] + modes[1]) and all(modes[2])
    assert not any(p.requires_grad for p in model.layers[1].parameters())
