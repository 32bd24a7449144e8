"""Students on images of any size: maps for detectors and segmentors."""
import pytest
import torch
import torch.nn.functional as F
from helpers.models import arch, student, swin_student
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.networks import any_size, relative_position
from mmfd.weights import checkpoints


def lively(config):
    """With weights, scales and biases that all take part."""
    model = MODELS.build(config).eval()
    with torch.no_grad():
        for name, param in model.named_parameters():
            if 'gamma' not in name:
                param.add_(0.1 * torch.randn_like(param))
    return model


def dense(like=None, **kwargs):
    """A student of maps, with a bias per block and the weights of `like`."""
    model = lively(
        student(**dict(
            dict(
                use_rel_pos_bias=True,
                use_shared_rel_pos_bias=False,
                out_type='featmap'), **kwargs)))
    if like is not None:
        model.load_state_dict(like.state_dict())
    return model


BIASES = [
    dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False),
    dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
    dict(
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=False,
        use_abs_pos_emb=True),
]


@pytest.mark.parametrize('cls_tokens', [1, 0])
@pytest.mark.parametrize('bias', BIASES)
@pytest.mark.parametrize(
    'change', [{},
               dict(window_size=4),
               dict(window_size=4, global_blocks=[1], with_cp=True)])
def test_maps_at_the_size_of_training_are_the_tokens_of_the_student(
        bias, change, cls_tokens):
    """A window as large as the grid is attention over all."""
    bias = dict(bias, with_cls_token=cls_tokens == 1)
    model = lively(student(**bias))
    maps = dense(model, out_indices=[0, 1, 2], **bias, **change)
    images = torch.randn(2, 3, 32, 32)
    host = lively(student(out_indices=[0, 1, 2], **bias))
    host.load_state_dict(model.state_dict())
    for a, tokens in zip(maps(images), host(images)):
        assert a.shape == (2, 48, 4, 4)
        torch.testing.assert_close(
            a.flatten(2),
            tokens[:, cls_tokens:].transpose(1, 2),
            rtol=1e-6,
            atol=1e-5)
    assert maps(torch.randn(1, 3, 40, 24))[-1].shape == (1, 48, 5, 3)


@pytest.mark.parametrize('grid', [(4, 4), (7, 7), (5, 9), (3, 4)])
def test_bias_of_another_grid_is_the_resampled_table(grid):
    """Read off offset by offset, as the host does of its own grid."""
    model = dense()
    attention = any_size.GridAttention(model, grid)
    table = model.layers[0].attn.relative_position_bias_table
    resampled = relative_position.resize(table, (4, 4), grid)
    bias, (h, w) = attention.bias(table), grid
    assert bias.shape == (3, 1 + h * w, 1 + h * w)
    for query in range(h * w):
        for key in range(h * w):
            down = query // w - key // w + h - 1
            right = query % w - key % w + w - 1
            torch.testing.assert_close(
                bias[:, 1 + query, 1 + key],
                resampled[down * (2 * w - 1) + right],
                rtol=0,
                atol=1e-6)
    to_cls, from_cls, within = table[-3:]
    assert (bias[:, 0, 1:] == to_cls[:, None]).all()
    assert (bias[:, 1:, 0] == from_cls[:, None]).all()
    assert (bias[:, 0, 0] == within).all()


def test_index_of_the_own_grid_is_the_hosts():
    attn = dense().layers[0].attn
    assert torch.equal(
        any_size.position_index((4, 4)).long(), attn.relative_position_index)


def test_block_on_another_grid_equals_softmax_written_out():
    model = dense(out_indices=[0], final_norm=False)
    images = torch.randn(1, 3, 40, 56)
    x, grid = model.patch_embed(images)
    assert grid == (5, 7)
    layer, x = model.layers[0], torch.cat([model.cls_token, x], 1)
    attn, y = layer.attn, layer.ln1(x)
    qkv = y @ attn.qkv.weight.T + torch.cat(
        [attn.q_bias, torch.zeros(48), attn.v_bias])
    q, k, v = (t.view(36, 3, 16).transpose(0, 1) for t in qkv[0].chunk(3, -1))
    bias = any_size.GridAttention(model,
                                  grid).bias(attn.relative_position_bias_table)
    weights = (q @ k.mT / 4 + bias).softmax(-1)
    y = attn.proj((weights @ v).transpose(0, 1).flatten(1))
    x = x + layer.gamma_1 * y
    x = x + layer.gamma_2 * layer.ffn(layer.ln2(x))
    [found] = model(images)
    torch.testing.assert_close(
        found[0].flatten(1).T, x[0, 1:], rtol=1e-5, atol=1e-5)


def test_windows_see_nothing_of_each_other_but_through_the_cls_token():
    model = dense(window_size=2, out_indices=[0])
    images = torch.randn(1, 3, 40, 40)  # 5 x 5 patches, windows padded to 6
    changed = images.clone()
    changed[..., 16:24, 16:24] += 1  # patch (2, 2), window (1, 1)
    moved = (model(changed)[0] - model(images)[0]).abs().amax(1)[0]
    inside = torch.zeros(5, 5, dtype=torch.bool)
    inside[2:4, 2:4] = True
    assert (moved[inside] > 1e-6).all() and (moved[~inside] == 0).all()
    deeper = dense(model, window_size=2, out_indices=[2])
    assert (deeper(changed)[0] != deeper(images)[0]).any(1).all()


def test_global_blocks_see_all():
    model = dense(window_size=2, global_blocks=[0], out_indices=[0])
    whole = dense(model, out_indices=[0])
    images = torch.randn(2, 3, 40, 24)
    torch.testing.assert_close(model(images), whole(images))


@pytest.mark.parametrize('make', [
    dense,
    lambda: dense(window_size=3, global_blocks=[2]),
    lambda: lively(swin_student(pad_small_map=True)),
])
def test_image_in_a_batch_equals_the_same_alone_at_that_shape(make):
    model, images = make(), torch.zeros(3, 3, 45, 61)
    for image, (h, w) in zip(images, [(45, 61), (33, 61), (45, 20)]):
        image[:, :h, :w] = torch.randn(3, h, w)
    batch = model(images)[-1]
    for i in range(3):
        torch.testing.assert_close(
            model(images[i:i + 1])[-1][0], batch[i], rtol=1e-5, atol=1e-5)


def test_sides_that_the_patch_does_not_divide_are_padded_with_zeros():
    model, images = dense(), torch.randn(1, 3, 33, 45)
    torch.testing.assert_close(
        model(images), model(F.pad(images, (0, 3, 0, 7))))


def test_sizes_may_change_between_calls_and_after_inference():
    model, small = dense(), torch.randn(1, 3, 24, 40)
    with torch.inference_mode():
        first = model(small)[0].clone()
        model(torch.randn(1, 3, 64, 48))
    again = model(small)[0]
    again.sum().backward()
    torch.testing.assert_close(again, first)
    for layer in model.layers:
        table = layer.attn.relative_position_bias_table
        assert (table.grad[:-3] != 0).any() and table.grad.isfinite().all()


def test_gradient_of_a_table_passes_through_its_resampling():
    model = dense(out_indices=[0]).double()
    table = model.layers[0].attn.relative_position_bias_table
    images = torch.randn(1, 3, 40, 24, dtype=torch.float64)
    weight = torch.randn(1, 48, 5, 3, dtype=torch.float64)

    def loss(table):
        found = torch.func.functional_call(
            model, {'layers.0.attn.relative_position_bias_table': table},
            (images, ))
        return (found[0] * weight).sum()

    assert torch.autograd.gradcheck(loss, table.detach().requires_grad_())


def test_computing_blocks_again_gives_the_same_gradients():
    kept = dense(window_size=3, global_blocks=[1])
    again = dense(kept, window_size=3, global_blocks=[1], with_cp=True)
    images = torch.randn(2, 3, 40, 48)
    for model in kept, again:
        model(images)[0].square().sum().backward()
    for a, b in zip(kept.parameters(), again.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize('make', [
    lambda **kwargs: MODELS.build(swin_student(pad_small_map=True, **kwargs)),
    lambda **kwargs: MODELS.build(swin_student(pad_small_map=True, **kwargs)).
    train(),
])
@pytest.mark.parametrize('size', [(64, 64), (70, 95), (33, 130)])
def test_swin_gives_maps_of_every_stage_at_any_size(make, size):
    model = make(out_indices=(0, 1, 2))
    maps = model(torch.randn(2, 3, *size))
    strides = [4, 8, 16]
    assert [m.shape[1] for m in maps] == [24, 48, 96]
    for found, stride in zip(maps, strides):
        for side, pixels in zip(found.shape[2:], size):
            assert side == -(-pixels // stride) or stride > 4
    sum(m.sum() for m in maps).backward()


# --- checkpoints just load ---


def saved(config, path, prefix='backbone.'):
    model = lively(config)
    checkpoints.save({
        prefix + k: v
        for k, v in model.state_dict().items()
    } | {'neck.fc.weight': torch.ones(2, 2)}, path, {})
    return model


def pretrained(path, prefix='backbone.'):
    return dict(type='Pretrained', checkpoint=str(path), prefix=prefix)


def test_distilled_student_loads_into_every_block_at_another_size(tmp_path):
    """As from a run: one shared table, the projection beside it."""
    file = tmp_path / 'fd.pth'
    source = saved(student(), file)
    model = MODELS.build(
        student(
            img_size=48,
            use_rel_pos_bias=True,
            use_shared_rel_pos_bias=False,
            final_norm=False,
            out_type='featmap',
            out_indices=[0, 2],
            init_cfg=pretrained(file)))
    model.init_weights()
    shared = source.rel_pos_bias.relative_position_bias_table
    table = relative_position.resize(shared, (4, 4), (6, 6))
    for layer, theirs in zip(model.layers, source.layers):
        assert torch.equal(layer.attn.relative_position_bias_table, table)
        assert torch.equal(layer.attn.qkv.weight, theirs.attn.qkv.weight)


def test_distilled_swin_loads_and_the_norms_of_its_stages_are_fresh(tmp_path):
    file = tmp_path / 'fd.pth'
    source = saved(swin_student(), file)
    model = MODELS.build(
        swin_student(
            pad_small_map=True,
            out_indices=(0, 1, 2),
            init_cfg=pretrained(file)))
    model.init_weights()
    theirs = source.state_dict()
    for name, value in model.state_dict().items():
        if name.startswith(('norm0.', 'norm1.')):
            assert (value == ('weight' in name)).all()
        else:
            assert torch.equal(value, theirs[name])


@pytest.mark.parametrize('change, prefix, message', [
    ({}, '', "whole model: add prefix='backbone.' to its init_cfg"),
    (dict(arch=arch(layers=4)), 'backbone.', r'lacks layers\.3\.'),
    (dict(arch=arch(layers=2)), 'backbone.', r'has layers\.2\.'),
    (dict(arch=arch(width=96)), 'backbone.', r'of another size .*\[1, 1, 48\]'
     r' in the file and \[1, 1, 96\] in the network.*\. Set arch'),
    ({}, 'model.', r"none of its keys begins with prefix='model\.'"),
])
def test_file_that_does_not_fit_is_one_message(tmp_path, change, prefix,
                                               message):
    file = tmp_path / 'fd.pth'
    saved(student(), file)
    config = student(
        use_rel_pos_bias=True,
        use_shared_rel_pos_bias=False,
        out_type='featmap',
        init_cfg=pretrained(file, prefix))
    with pytest.raises(Refused, match=message):
        MODELS.build(dict(config, **change)).init_weights()


@pytest.mark.parametrize('change, message', [
    (dict(out_indices=[0, 3]), r'out_indices=\[0, 3\] of a backbone of 3 '
     r'blocks: set backbone.out_indices to some of 0 to 2'),
    (dict(out_indices=-4), 'out_indices=.* of a backbone of 3 blocks'),
    (dict(global_blocks=[7]), 'set backbone.global_blocks to some of 0 to 2'),
    (dict(window_size=2, out_type='raw'), "set backbone.out_type='featmap'"),
])
def test_setting_that_cannot_be_is_refused(change, message):
    with pytest.raises(Refused, match=message):
        dense(**change)


def test_image_smaller_than_a_patch_is_refused():
    with pytest.raises(
            Refused,
            match='images of 32 x 7 pixels are smaller '
            'than the patch of 8 x 8: set the sizes'):
        dense()(torch.zeros(1, 3, 32, 7))
