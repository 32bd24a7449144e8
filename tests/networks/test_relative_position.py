"""Relative bias tables on another grid, against SciPy's splines."""
import pytest
import torch
from helpers.models import downstream, student
from mmengine.registry import MODELS
from scipy.interpolate import RectBivariateSpline
from torch._subclasses.fake_tensor import FakeTensorMode

from mmfd.errors import Refused
from mmfd.networks import relative_position
from mmfd.weights import checkpoints

GRIDS = [  # source, target in patches
    ((14, 14), (16, 16)),
    ((14, 14), (24, 24)),  # 384 pixels in patches of 16
    ((16, 16), (24, 24)),  # 336 in patches of 14
    ((14, 14), (32, 32)),
    ((16, 16), (14, 14)),  # shrinking
    ((24, 24), (14, 14)),
    ((14, 14), (20, 32)),
    ((4, 3), (7, 2)),
    ((3, 3), (9, 9)),  # wider than the largest ratio reaches
]


@pytest.mark.parametrize('source, target, ratio', [
    (14, 16, 1.023493),
    (14, 24, 1.090307),
    (16, 24, 1.058432),
    (14, 32, 1.134918),
    (16, 14, 1.010001),
    (24, 14, 1.010001),
])
def test_ratios_are_the_official_ones(source, target, ratio):
    found = relative_position.common_ratio(source, target)
    assert found == pytest.approx(ratio, abs=5e-7)


def spline(values, axes):
    """SciPy's, on offsets as far apart as the docstring of `resize` says."""
    known, wanted = [], []
    for source, target in axes:
        ratio = relative_position.common_ratio(source, target)
        far = [sum(ratio**i for i in range(n)) for n in range(1, source)]
        known.append([-x for x in far[::-1]] + [0] + far)
        wanted.append([*range(1 - target, target)])
    degrees = [min(3, len(points) - 1) for points in known]
    return torch.from_numpy(
        RectBivariateSpline(
            *known, values.double(), kx=degrees[0], ky=degrees[1],
            s=0)(*wanted))


@pytest.mark.parametrize('source, target', GRIDS)
def test_resizing_is_scipys_cubic_spline(source, target):
    height, width = (2 * side - 1 for side in source)
    table = torch.randn(height * width + 3, 2)
    resized = relative_position.resize(table, source, target)
    assert torch.equal(resized[-3:], table[-3:])
    for head in range(2):
        expected = spline(table[:-3, head].view(height, width),
                          [*zip(source, target)])
        assert (resized[:-3, head] - expected.flatten()).abs().max() < 1e-6


def test_same_grid_keeps_the_table_and_a_constant_stays_one():
    table = torch.randn(27 * 27 + 3, 3)
    same = relative_position.resize(table, (14, 14), (14, 14))
    assert torch.equal(same, table)
    for target in ((24, 24), (9, 30)):
        resized = relative_position.resize(
            torch.full((27 * 27, 1), 0.3), (14, 14), target, extra=0)
        torch.testing.assert_close(resized, torch.full_like(resized, 0.3))


def test_a_grid_of_one_patch_spreads_its_only_offset():
    resized = relative_position.resize(torch.ones(4, 1), (1, 1), (3, 2))
    assert torch.equal(resized, torch.ones(5 * 3 + 3, 1))


def test_gradient_is_the_transposed_map_even_after_a_test_run():
    relative_position.matrix.cache_clear()
    table = torch.randn(7 * 7 + 3, 2, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():  # as a validation loop before training
        relative_position.resize(table, (4, 4), (6, 5))
    assert torch.autograd.gradcheck(
        lambda t: relative_position.resize(t, (4, 4), (6, 5)), table)
    misses = relative_position.matrix.cache_info().misses
    relative_position.resize(table, (4, 4), (6, 5))
    assert relative_position.matrix.cache_info().misses == misses == 2


def test_what_a_plan_has_asked_for_is_real_afterwards():
    relative_position.matrix.cache_clear()
    table = torch.randn(7 * 7 + 3, 2)
    with FakeTensorMode(allow_non_fake_inputs=True):
        relative_position.resize(torch.empty(7 * 7 + 3, 2), (4, 4), (6, 5))
    after = relative_position.resize(table, (4, 4), (6, 5))
    assert type(after) is torch.Tensor and after.isfinite().all()


def test_autocast_does_not_round_the_table():
    table = torch.randn(7 * 7 + 3, 2)
    exact = relative_position.resize(table, (4, 4), (7, 7))
    with torch.autocast('cpu', torch.bfloat16):
        rounded = relative_position.resize(table, (4, 4), (7, 7))
    assert torch.equal(rounded, exact)


def test_table_of_another_grid_is_refused():
    with pytest.raises(Refused, match='52 rows .* 3 x 3 .* 5 x 5'):
        relative_position.resize(torch.zeros(52, 3), (3, 3), (4, 4))


# --- in the student's load hook ---

TABLE = 'rel_pos_bias.relative_position_bias_table'


def distilled(tmp_path, **kwargs):
    """A student with a table that was learnt, and its file."""
    model = MODELS.build(student(**kwargs))
    model.init_weights()
    for name, parameter in model.named_parameters():
        if name == TABLE or name == 'pos_embed':
            torch.nn.init.normal_(parameter)
    checkpoints.save(model.state_dict(), tmp_path / 'student.pth', {})
    return model, dict(
        type='Pretrained', checkpoint=str(tmp_path / 'student.pth'))


@pytest.mark.parametrize('pixels', [56, 48, 24])
def test_init_cfg_brings_a_shared_table_to_every_block_of_another_grid(
        tmp_path, pixels):
    before, init_cfg = distilled(tmp_path)
    used = MODELS.build(dict(downstream(init_cfg=init_cfg), img_size=pixels))
    used.init_weights()
    expected = relative_position.resize(before.state_dict()[TABLE], (4, 4),
                                        (pixels // 8, pixels // 8))
    for block in used.layers:
        assert torch.equal(block.attn.relative_position_bias_table, expected)
    assert used.eval()(torch.zeros(1, 3, pixels, pixels))[0].shape == (1, 48)


def test_shared_table_stays_and_is_resized_where_the_official_code_loses_it(
        tmp_path):
    before, init_cfg = distilled(tmp_path)
    larger = MODELS.build(student(img_size=56, init_cfg=init_cfg))
    larger.init_weights()
    assert torch.equal(
        larger.state_dict()[TABLE],
        relative_position.resize(before.state_dict()[TABLE], (4, 4), (7, 7)))


def test_tables_of_blocks_are_resized_in_a_whole_model_too():
    small, large = (
        MODELS.build(
            dict(
                type='mmpretrain.ImageClassifier',
                backbone=dict(downstream(), img_size=pixels),
                head=dict(
                    type='mmpretrain.LinearClsHead',
                    num_classes=7,
                    in_channels=48))) for pixels in (32, 56))
    tables = []
    for block in small.backbone.layers:
        tables.append(block.attn.relative_position_bias_table)
        torch.nn.init.normal_(tables[-1])
    large.load_state_dict(small.state_dict(), strict=True)
    for table, block in zip(tables, large.backbone.layers):
        assert torch.equal(block.attn.relative_position_bias_table,
                           relative_position.resize(table, (4, 4), (7, 7)))


def test_absolute_positions_are_resized_bicubically(tmp_path):
    absolute = dict(use_shared_rel_pos_bias=False, use_abs_pos_emb=True)
    before, init_cfg = distilled(tmp_path, **absolute)
    larger = MODELS.build(student(img_size=56, init_cfg=init_cfg, **absolute))
    larger.init_weights()
    assert torch.equal(larger.pos_embed[:, :1], before.pos_embed[:, :1])
    grid = before.pos_embed[:, 1:].view(1, 4, 4, 48).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(
        grid, size=(7, 7), mode='bicubic', align_corners=False)
    torch.testing.assert_close(larger.pos_embed[:, 1:],
                               expected.flatten(2).transpose(1, 2))


def test_shared_table_that_nothing_takes_is_refused_by_name(tmp_path):
    _, init_cfg = distilled(tmp_path)
    blind = MODELS.build(
        student(
            use_shared_rel_pos_bias=False,
            use_abs_pos_emb=True,
            init_cfg=init_cfg))
    with pytest.raises(Refused, match=f'lacks pos_embed .* {TABLE}'):
        blind.init_weights()


@pytest.mark.parametrize('rows, heads', [(51, 3), (52, 2)])
def test_table_of_no_square_grid_or_of_other_heads_is_refused(
        tmp_path, rows, heads):
    before, init_cfg = distilled(tmp_path)
    broken = dict(before.state_dict(), **{TABLE: torch.zeros(rows, heads)})
    checkpoints.save(broken, tmp_path / 'student.pth', {})
    larger = MODELS.build(student(img_size=56, init_cfg=init_cfg))
    with pytest.raises(Refused, match=f'another size .*{TABLE}'):
        larger.init_weights()
