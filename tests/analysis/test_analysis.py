"""Diagnosis: maps are those of other libraries, measures have closed forms."""
import json
import re
from math import log
from pathlib import Path

import pytest
import timm
import torch
from helpers.commands import command, refused
from helpers.foreign import TINY, build_exported, hf_vit
from helpers.imports import imported
from helpers.models import (arch, build_random, distillation, randomise,
                            save_trained, student, swin_student)
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfd.analysis import landscape, measures, tokens, whitening
from mmfd.analysis.attention import Recorder, layout, weights_of
from mmfd.analysis.images import Images
from mmfd.analysis.networks import Network
from mmfd.analysis.survey import SAMPLE, Survey
from mmfd.data.transforms import LoadImage
from mmfd.weights import checkpoints
from mmfd.weights.convert import CONVERTERS
from mmfd.weights.export import export

# --- recording ---


def recorded(backbone, images):
    maps = []
    with torch.no_grad(), Recorder(backbone, maps.append):
        backbone(images)
    return maps


def assert_same_maps(backbone, expected, size, rtol=1e-5):
    """Expected: images to [(B W, H, L, L)]."""
    images = torch.randn(2, 3, size, size)
    maps = recorded(backbone, images)
    with torch.no_grad():
        expected = expected(images)
    assert len(maps) == len(expected) > 1
    for found, weights in zip(maps, expected):
        assert weights.std() > 1e-3  # there is something to compare
        torch.testing.assert_close(
            found.weights.flatten(0, 1), weights, rtol=rtol, atol=1e-5)


@torch.no_grad()
def sharp(model):
    """Fresh weights are so small that attention would be uniform."""
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(4)
    return model


def hf_maps(model):
    if not hasattr(model, 'set_attn_implementation'):
        pytest.skip('the transformers of the older OpenMMLab hides its maps')
    model.set_attn_implementation('eager')
    return lambda images: model(images, output_attentions=True).attentions


def timm_maps(model):
    """What the attention dropout of timm's blocks is given, unfused."""

    def maps(images):
        seen = []
        for block in model.modules():
            if hasattr(block, 'attn_drop'):
                block.fused_attn = False
                block.attn_drop.register_forward_hook(
                    lambda module, args, out: seen.append(out))
        model(images)
        return seen

    return maps


def test_maps_of_a_plain_vit_are_those_of_transformers():
    theirs = sharp(hf_vit(TINY))
    ours = MODELS.build(
        dict(
            type='mmpretrain.VisionTransformer',
            arch=arch(128, 2, 2),
            img_size=32,
            patch_size=8,
            norm_cfg=dict(type='LN', eps=1e-6),
            out_type='raw'))
    ours.load_state_dict(CONVERTERS['hf-vit'](theirs.state_dict()))
    ours.eval()
    assert_same_maps(ours, hf_maps(theirs), 32)


@pytest.mark.parametrize('bias', ['shared', 'per block'])
def test_maps_of_a_beit_are_those_of_transformers(tmp_path, bias):
    shared = bias == 'shared'
    config = student(
        use_shared_rel_pos_bias=shared, use_rel_pos_bias=not shared)
    ours = build_random(config)
    file = save_trained(ours, tmp_path / 'epoch_1.pth')
    theirs = build_exported(export(file, dict(backbone=config), 'hf'))
    assert_same_maps(ours, hf_maps(theirs), 32)


def test_maps_of_swin_are_those_of_timm():
    theirs = timm.models.SwinTransformer(
        img_size=64,
        window_size=4,
        embed_dim=24,
        depths=(2, 2),
        num_heads=(1, 2),
        num_classes=0)
    sharp(randomise(theirs))
    official = {  # a merging ends a stage there, begins one in timm
        re.sub(r'^layers\.1\.downsample', 'layers.0.downsample', key): value
        for key, value in theirs.state_dict().items()
    }
    ours = MODELS.build(
        dict(
            type='mmpretrain.SwinTransformer',
            arch=dict(embed_dims=24, depths=(2, 2), num_heads=(1, 2)),
            img_size=64,
            window_size=4,
            out_indices=(1, )))
    weights = CONVERTERS['swin'](official)
    own = ours.state_dict()
    ours.load_state_dict({k: weights.get(k, own[k]) for k in own})
    ours.eval()
    assert_same_maps(ours, timm_maps(theirs), 64)


def test_maps_of_swin_v2_are_those_of_timm(tmp_path):
    config = swin_student()
    ours = build_random(config)
    file = save_trained(ours, tmp_path / 'epoch_1.pth')
    theirs = build_exported(export(file, dict(backbone=config), 'timm'))
    assert_same_maps(ours, timm_maps(theirs), 64)


def test_fused_and_unfused_attention_of_the_student_give_the_same_maps():
    bias = dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False)
    unfused = build_random(student(**bias))
    fused = MODELS.build(student(out_type='featmap', **bias)).eval()
    fused.load_state_dict(unfused.state_dict())
    images = torch.randn(2, 3, 32, 32)
    for one, other in zip(
            recorded(unfused, images), recorded(fused, images), strict=True):
        torch.testing.assert_close(one.weights, other.weights)
        assert torch.equal(one.positions, other.positions)


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'deit3_small'])
def test_timm_is_recorded_as_it_is(name):
    name = dict(deit3_small='deit3_small_patch16_224').get(name, name)
    theirs = timm.create_model(
        name, img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    assert theirs.blocks[0].attn.fused_attn
    assert_same_maps(sharp(randomise(theirs)), timm_maps(theirs), 32)


@pytest.mark.parametrize('mask', ['none', 'float', 'bool', 'causal'])
def test_recomputed_map_times_value_is_fused_attention(mask):
    query, key, value = torch.randn(3, 2, 3, 7, 8)
    kwargs = dict(
        none={},
        causal=dict(is_causal=True),
        float=dict(attn_mask=torch.randn(3, 7, 7), scale=0.3),
        bool=dict(attn_mask=torch.rand(7, 7) > 0.3))[mask]
    fused = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, **kwargs)
    weights = weights_of(query, key, value, **kwargs)
    torch.testing.assert_close(weights @ value, fused)


def test_recording_changes_nothing_and_leaves_nothing_behind():
    backbone = build_random(student())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = backbone(images)[0]
        with Recorder(backbone, lambda found: None):
            during = backbone(images)[0]
    assert torch.equal(before, during)
    assert not any(m._forward_hooks or m._forward_pre_hooks
                   for m in backbone.modules())


def test_shifted_windows_are_where_they_really_are():
    """Each patch of one colour is found at its own place by its query."""
    positions, extra = layout((64, 64), 4, 16, shift=2)
    assert extra == 0 and positions.shape == (4, 16, 2)
    index = ((positions - 4) / 8).long()
    rolled = torch.arange(64).view(8, 8).roll((-2, -2), (0, 1))
    windows = rolled.unfold(0, 4, 4).unfold(1, 4, 4).reshape(4, 16)
    assert torch.equal(index[..., 0] * 8 + index[..., 1], windows)
    maps = recorded(build_random(swin_student()), torch.randn(1, 3, 64, 64))
    plain, shifted = (found for found in maps if found.layer[:8] == 'stages.1')
    assert plain.positions[0, 0].tolist() == [4, 4]
    assert shifted.positions[0, 0].tolist() == [20, 20]


def test_masked_pairs_of_shifted_windows_weigh_nothing():
    maps = recorded(build_random(swin_student()), torch.randn(1, 3, 64, 64))
    shifted = [found for found in maps if found.layer[:8] == 'stages.1'][1]
    near = torch.cdist(shifted.positions, shifted.positions) < 40
    assert shifted.weights[0].transpose(0, 1)[:, ~near].max() < 1e-6
    assert not near.all()


def test_blocks_are_found_in_every_kind_of_network():
    vit, swin = (MODELS.build(c) for c in (student(), swin_student()))
    convnext = MODELS.build(CONVNEXT)
    assert [*tokens.blocks(vit)] == ['layers.0', 'layers.1', 'layers.2']
    assert [*tokens.blocks(swin)] == [
        'stages.0.blocks.0', 'stages.1.blocks.0', 'stages.1.blocks.1',
        'stages.2.blocks.0'
    ]
    assert len(tokens.blocks(convnext)) == 5


# --- measures ---


def grid(side, patch):
    return layout((side * patch, ) * 2, 1, side**2)[0]


@pytest.mark.parametrize('side, patch, pixels', [(14, 16, 116.49),
                                                 (16, 14, 116.57)])
def test_uniform_attention_has_the_known_distance(side, patch, pixels):
    weights = torch.full((2, 1, 3, side**2, side**2), 1 / side**2)
    distance = measures.attention_distance(weights, grid(side, patch), 0)
    assert distance.tolist() == pytest.approx([pixels] * 3, abs=5e-3)


def test_attention_to_oneself_has_distance_zero():
    weights = torch.eye(196)[None, None, None]
    assert measures.attention_distance(weights, grid(14, 16), 0) == 0


@pytest.mark.parametrize('shift', [1, 3])
def test_attention_one_shift_away_has_its_length(shift):
    positions = grid(4, 16)
    weights = torch.eye(16).view(4, 4, 16).roll(shift, 1).view(16, 16)
    distance = measures.attention_distance(weights[None, None, None],
                                           positions, 0)
    around = 16. * (shift * (4 - shift) + (4 - shift) * shift) / 4
    assert distance.item() == pytest.approx(around)


def test_cls_token_is_left_out_by_renormalising_or_counts_as_near():
    weights = torch.full((1, 1, 1, 197, 197), 0.5 / 196)
    weights[..., 0] = 0.5
    one, other = (
        measures.attention_distance(weights, grid(14, 16), 1, way)
        for way in (True, False))
    assert one.item() == pytest.approx(116.49, abs=5e-3)
    assert other.item() == pytest.approx(116.49 / 2, abs=5e-3)


def test_equal_heads_have_cosine_one_and_divergence_zero():
    weights = torch.rand(2, 1, 1, 9, 9).softmax(-1).expand(-1, -1, 4, -1, -1)
    similarity = measures.head_similarity(weights)
    divergence, _ = measures.head_divergence(weights)
    torch.testing.assert_close(similarity, torch.ones(4, 4))
    torch.testing.assert_close(divergence, torch.zeros(4, 4))
    assert measures.off_diagonal(similarity).item() == pytest.approx(1)


def test_heads_that_look_elsewhere_have_cosine_zero():
    weights = torch.stack([torch.eye(4), torch.eye(4).flip(0)])[None, None]
    assert measures.off_diagonal(measures.head_similarity(weights)) == 0


def test_entropy_is_log_n_of_uniform_and_zero_of_one_hot_attention():
    weights = torch.stack([torch.full((9, 9), 1 / 9), torch.eye(9)])
    divergence, entropy = measures.head_divergence(weights[None, None])
    assert entropy.tolist() == pytest.approx([log(9), 0], abs=1e-5)
    # of one-hot against uniform: log n - 0
    assert divergence[1, 0].item() == pytest.approx(log(9), abs=1e-5)


@pytest.mark.parametrize('side', [4, 7])
def test_offset_explains_all_of_a_toeplitz_map_and_nothing_of_columns(side):
    positions = grid(side, 16)
    offset = (positions[:, None] - positions[:, :, None]) / 16 + side
    table = torch.randn(2 * side, 2 * side)
    toeplitz = table[offset[..., 0].long(), offset[..., 1].long()]
    columns = torch.randn(side**2).expand(1, side**2, -1)
    share = measures.share_by_offset
    assert share(toeplitz, positions).item() == pytest.approx(1)
    assert share(columns, positions) == pytest.approx(0, abs=0.05)
    assert measures.share_by_key(columns, positions) == pytest.approx(1)


def test_grouping_explains_nothing_of_noise():
    noise, positions = torch.randn(1, 196, 196), grid(14, 16)
    for share in (measures.share_by_offset, measures.share_by_key):
        assert share(noise, positions) < 0.01


def test_cka_does_not_see_rotation_and_scale():
    x, y = torch.randn(2, 50, 8, dtype=torch.double)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.double))[0]
    other = measures.cka(x, y)
    assert other < 0.6
    torch.testing.assert_close(measures.cka(x, x), torch.ones_like(other))
    torch.testing.assert_close(measures.cka(3 * x @ rotation + 5, y), other)
    grams = torch.stack([
        measures.gram(f) for f in (x, y, 3 * x @ rotation + 5,
                                   torch.ones(50, 1, dtype=torch.double) + y)
    ])
    batched = measures.cka_of(measures.hsic(grams))
    assert batched[0, 2].item() == pytest.approx(1)
    assert batched[0, 1].item() == pytest.approx(batched[2, 3].item())
    assert abs(batched[0, 1]) < 0.1  # unbiased: of independent features


def test_unbiased_hsic_is_that_of_the_definition():
    """Song et al., eq. 5: sums over tuples of different examples."""
    x, y = torch.randn(2, 12, 3, dtype=torch.double)
    n = len(x)
    k, m = ((f @ f.T) * (1 - torch.eye(n)) for f in (x, y))
    expected = ((k @ m).trace() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 *
                (k @ m).sum() / (n - 2)) / (
                    n * (n - 3))
    grams = torch.stack([measures.gram(f) for f in (x, y)])
    torch.testing.assert_close(measures.hsic(grams)[0, 1], expected)


def test_effective_rank_counts_equal_directions():
    values = measures.singular_values(torch.diag(torch.tensor([4., 4., 0.])))
    assert values.tolist() == [2, 2, 0]
    assert measures.effective_rank(values).item() == pytest.approx(2)


def test_colours_are_the_components_of_patches():
    axes = torch.linalg.qr(torch.randn(8, 8))[0][:3]
    parts = torch.rand(2, 5, 5, 3) * torch.tensor([9., 3., 1.])
    shown = measures.colours(parts @ axes + 7)
    assert shown.shape == (2, 5, 5, 3)
    assert 0 <= shown.min() and shown.max() <= 1
    for i in range(3):
        pair = torch.stack([shown[..., i].flatten(), parts[..., i].flatten()])
        assert torch.corrcoef(pair)[0, 1].abs() > 0.9


# --- landscape ---


def test_landscape_of_a_quadratic_is_the_parabola():
    model = torch.nn.Linear(6, 4).double()
    step = landscape.direction(
        dict(model.named_parameters()),
        torch.Generator().manual_seed(0))
    start = model.weight.clone()
    points = [(a, ) for a in torch.linspace(-1, 1, 5).tolist()]
    walked = landscape.walk(
        model, [step], points,
        lambda: dict(loss=(model.weight - start).square().sum().item()))
    losses = [found['loss'] for found in walked]
    length = start.square().sum().item()  # filters are as long as weights
    assert losses == pytest.approx([length * a**2 for a, in points])
    assert torch.equal(model.weight, start)


def test_every_filter_of_a_direction_is_as_long_as_its_weights():
    model = torch.nn.Conv2d(3, 5, 2)
    step = landscape.direction(
        dict(model.named_parameters()),
        torch.Generator().manual_seed(1))
    torch.testing.assert_close(step['weight'].flatten(1).norm(dim=1),
                               model.weight.flatten(1).norm(dim=1))
    assert not step['bias'].any()


def test_weights_are_restored_when_evaluation_fails():
    model = torch.nn.Linear(3, 3)
    before = model.weight.clone()
    step = landscape.direction(
        dict(model.named_parameters()), torch.Generator())
    with pytest.raises(ZeroDivisionError):
        [*landscape.walk(model, [step], [(1., )], lambda: 1 / 0)]
    assert torch.equal(model.weight, before)


# --- whitening ---


def test_whitening_is_recommended_for_tokens_of_different_scale():
    patches = torch.randn(64, 16, 32) * torch.rand(64, 16, 1).add(0.3).pow(3)
    advice = whitening.advise(10 * patches, torch.randn(64, 32) * 90)
    choices = advice['choices']
    assert advice['recommended'] == 'whitening'
    assert choices['none']['even_tokens'] < 0.4
    assert choices['whitening']['even_tokens'] > 0.99
    assert choices['whitening']['rms'] == pytest.approx(1, abs=1e-3)
    assert choices['none']['cls_over_patch_norm'] > 5
    assert choices['whitening']['cls_over_patch_norm'] == pytest.approx(
        1, abs=0.01)
    assert choices['l2']['rms'] == pytest.approx(32**-0.5)


def test_standardising_is_recommended_for_outlier_channels():
    patches = torch.randn(64, 16, 32)
    patches[..., 5] *= 40
    advice = whitening.advise(patches, torch.zeros(64, 0))
    assert advice['recommended'] == 'standardise'
    assert advice['choices']['none']['outlier_channels'] == [5]
    assert '1 outlier channels' in advice['reason']


# --- the tool ---

CONVNEXT = dict(
    type='mmpretrain.ConvNeXt',
    arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32]),
    gap_before_final_norm=False)
PIPELINE = [
    dict(type='mmfd.LoadImage'),
    dict(type='mmpretrain.Resize', scale=32, backend='pillow'),
    dict(type='mmpretrain.PackInputs'),
]


def written(folder, name, model):
    loader = dict(dataset=dict(pipeline=PIPELINE))
    path = folder / f'{name}.py'
    Config(dict(model=model, val_dataloader=loader)).dump(path)
    return path


def classifier(backbone, width):
    return dict(
        type='mmpretrain.ImageClassifier',
        data_preprocessor=dict(
            type='mmpretrain.ClsDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True,
            num_classes=10),
        backbone=backbone,
        neck=dict(type='mmpretrain.GlobalAveragePooling')
        if backbone['type'].endswith('ConvNeXt') else None,
        head=dict(
            type='mmpretrain.LinearClsHead', num_classes=10,
            in_channels=width))


def analyze(folder, *args):
    """The numbers and the page that the tool writes."""
    command(
        'analyze',
        *args,
        '--out',
        folder,
        before='import torch; torch.manual_seed(0)')
    page = (folder / 'report.html').read_text()
    return json.loads((folder / 'numbers.json').read_text()), page


def test_what_is_kept_of_each_image_is_a_sample_of_its_output():
    model = build_random(distillation()).eval()
    network = Network('student', None, model, model.backbone, model.backbone)
    survey, channels = Survey(network, images=SAMPLE), 48
    for _ in range(3):
        survey.see(dict(inputs=torch.rand(10, 3, 32, 32) * 255))
    kept = survey.sample + survey.cls_tokens  # a patch and the cls token each
    assert sum(len(tensor) for tensor in kept) == 2 * 30
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept)
    assert held == 2 * 30 * channels * 4


def test_one_config_shows_teacher_and_student(tmp_path, monkeypatch,
                                              shapes_root):
    config = written(tmp_path, 'fd', distillation())
    model = build_random(distillation())
    checkpoints.save(model.state_dict(), tmp_path / 'epoch_1.pth', {})
    found, page = analyze(tmp_path / 'out', config, tmp_path / 'epoch_1.pth',
                          '--images', shapes_root / 'imagenet', '--count', 20,
                          '--landscape-images', 4, '--measures', 'attention',
                          'tokens', 'whitening', 'landscape')
    assert {*found['networks']} == {'teacher', 'student'}
    trained = found['networks']['student']
    assert trained['images'] == 20 and len(trained['attention']) == 3
    assert len(trained['attention']['layers.0']['distance']) == 3
    assert trained['tokens']['output']['grid'] == [4, 4]
    values = torch.tensor(found['cka']['values'])
    assert values.shape == (8, 8)
    torch.testing.assert_close(values.diagonal(), torch.ones(8))
    assert found['whitening']['recommended'] in whitening.CHOICES
    # the middle of the landscape is the loss of the checkpoint itself
    line = found['landscape']['student']['lines'][0]
    assert line[10]['loss'] == pytest.approx(
        found['landscape']['student']['plane'][60]['loss'])
    assert page.count('data:image/png;base64,') == 11
    assert 'http' not in re.sub('base64,[^"]*', '', page)
    assert len([*(tmp_path / 'out').glob('*.png')]) == 11


def test_numbers_do_not_depend_on_the_batch(tmp_path, monkeypatch,
                                            shapes_root):
    config = written(tmp_path, 'swin', classifier(swin_student(), 96))
    config.write_text(config.read_text().replace('scale=32', 'scale=64'))
    model = build_random(classifier(swin_student(), 96))
    checkpoints.save(model.state_dict(), tmp_path / 'epoch_1.pth', {})
    one, other = (
        analyze(tmp_path / str(size), config, tmp_path / 'epoch_1.pth',
                '--images', shapes_root / 'imagenet', '--count', 6,
                '--batch-size', size, '--measures',
                'attention')[0]['networks']['swin']['attention']
        for size in (2, 6))
    assert one['stages.1.blocks.1.attn.w_msa']['windows'] == 4
    for layer in one:
        for name in ('distance', 'entropy', 'offset_share', 'similarity'):
            assert one[layer][name] == pytest.approx(
                other[layer][name], rel=1e-4, nan_ok=True)


def test_teacher_alone_is_asked_for_its_whitening(tmp_path, monkeypatch,
                                                  shapes_root):
    config = written(tmp_path, 'fd', distillation())
    found, page = analyze(tmp_path / 'out', config, '--images',
                          shapes_root / 'imagenet', '--count', 4, '--measures',
                          'whitening')
    assert [*found['networks']] == ['teacher']
    assert {*found['whitening']['choices']} == {*whitening.CHOICES}
    assert 'Recommended' in page and 'mmfd.WhiteningNeck' in page


def test_network_without_attention_says_so_and_shows_the_rest(
        tmp_path, monkeypatch, shapes_root):
    """Beside one of another depth and grid, with broken and few images."""
    images = tmp_path / 'images'
    images.mkdir()
    for i, path in enumerate(sorted(shapes_root.rglob('*.jpg'))[:7]):
        (images / f'{i}.jpg').write_bytes(path.read_bytes())
    (images / 'broken.jpg').write_bytes(b'no image')
    first = written(tmp_path, 'convnext', classifier(CONVNEXT, 32))
    second = written(
        tmp_path, 'vit',
        classifier(student(final_norm=False, out_type='avg_featmap'), 48))
    found, page = analyze(tmp_path / 'out', first, 'random', second, 'random',
                          '--images', images, '--count', 50,
                          '--landscape-images', 8, '--measures', 'attention',
                          'tokens', 'whitening', 'landscape')
    assert found['networks']['convnext']['attention'] == {}
    assert found['networks']['convnext']['images'] == 7
    assert len(found['networks']['convnext']['tokens']) > 4
    notes = '\n'.join(found['notes'])
    for expected in ('none of its layers computes attention',
                     '50 images were asked for', '1 images could not be read',
                     'broken.jpg', 'The networks differ', 'No landscape',
                     'No whitening'):
        assert expected in notes
    assert 'How different heads are' in page


@pytest.mark.parametrize('arguments, message', [
    (['no.py', 'random'], 'no config file no.py'),
    (['fd.py', 'no.pth'], 'no.pth'),
    (['fd.py', 'random', '--count', '0'], 'at least one'),
    (['vit.py'], 'has no teacher'),
    (['fd.py', 'random', '--cfg-options', 'model.tacher=1'], 'did you mean'),
])
def test_mistakes_are_one_message_and_leave_nothing(tmp_path, monkeypatch,
                                                    shapes_root, arguments,
                                                    message):
    project = Path.cwd()
    written(tmp_path, 'fd', distillation())
    written(tmp_path, 'vit', classifier(student(final_norm=False), 48))
    paths = [
        str(tmp_path / a) if a in ('fd.py', 'vit.py') else a for a in arguments
    ]
    assert message in refused('analyze', *paths, '--images',
                              shapes_root / 'imagenet', '--out',
                              tmp_path / 'out')
    assert not (tmp_path / 'out').exists() and project == Path.cwd()


def test_unreadable_images_alone_are_one_message(tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    images = Images(str(tmp_path), 5)
    with pytest.raises(ValueError, match='none of 1 images .* can be read'):
        [*images.batches([LoadImage()], 2)]


def test_measures_import_torch_alone_and_only_plots_import_matplotlib():
    files = {path.stem: path for path in Path('mmfd/analysis').glob('*.py')}
    for name, path in files.items():
        names = [*imported(path)]
        assert ('plots' == name) == any('matplotlib' in n for n in names)
    for name in ('attention', 'tokens', 'measures', 'landscape', 'whitening'):
        roots = {n.split('.')[0] for n in imported(files[name])}
        assert roots <= {'torch', 'math', 'typing', 'mmfd'}, name
