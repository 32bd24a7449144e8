"""The report has what is measured, and every mistake is one message."""
import json
import os
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers.commands import command, refused, run
from helpers.models import (branch, build_random, clip_teacher, dino_teacher,
                            distillation, several, student, swin_student)
from mmengine.config import Config

from mmfd.analysis import whitening
from mmfd.analysis.load_networks import Network
from mmfd.analysis.loss_shares import LossShares
from mmfd.weights import checkpoints

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


def test_one_config_shows_teacher_and_student(tmp_path, shapes_root):
    config = written(tmp_path, 'fd', distillation())
    model = build_random(distillation())
    checkpoints.save(model.state_dict(), tmp_path / 'epoch_1.pth', {})
    numbers, page = analyze(tmp_path / 'out', config, tmp_path / 'epoch_1.pth',
                            '--images', shapes_root / 'imagenet', '--count',
                            20, '--landscape-images', 4, '--measures',
                            'attention', 'tokens', 'whitening', 'landscape')
    assert {*numbers['networks']} == {'teacher', 'student'}
    trained = numbers['networks']['student']
    assert trained['images'] == 20 and len(trained['attention']) == 3
    assert len(trained['attention']['layers.0']['distance']) == 3
    assert trained['tokens']['output']['grid'] == [4, 4]
    values = torch.tensor(numbers['cka']['values'])
    assert values.shape == (8, 8)
    torch.testing.assert_close(values.diagonal(), torch.ones(8))
    advice = numbers['whitening']['teacher']
    assert advice['recommended'] in whitening.TITLES
    assert numbers['loss_shares'] == {}  # of one teacher it is all
    # the middle of the landscape is the loss of the checkpoint itself
    line = numbers['landscape']['student']['lines'][0]
    assert line[10]['loss'] == pytest.approx(
        numbers['landscape']['student']['plane'][60]['loss'])
    assert page.count('data:image/png;base64,') == 11
    assert 'http' not in re.sub('base64,[^"]*', '', page)
    assert len([*(tmp_path / 'out').glob('*.png')]) == 11


def test_numbers_do_not_depend_on_the_batch(tmp_path, shapes_root):
    config = written(tmp_path, 'swin', classifier(swin_student(), 96))
    config.write_text(config.read_text().replace('scale=32', 'scale=64'))
    model = build_random(classifier(swin_student(), 96))
    checkpoints.save(model.state_dict(), tmp_path / 'epoch_1.pth', {})
    one, other = (
        analyze(tmp_path / str(size), config, tmp_path / 'epoch_1.pth',
                '--images', shapes_root / 'imagenet', '--count', 7,
                '--batch-size', size, '--measures',
                'attention')[0]['networks']['swin']['attention']
        for size in (3, 7))
    assert one['stages.1.blocks.1.attn.w_msa']['windows'] == 4
    for layer in one:
        for name in ('distance', 'entropy', 'offset_share', 'similarity'):
            assert one[layer][name] == pytest.approx(
                other[layer][name], rel=1e-4, nan_ok=True)


def test_teacher_alone_gets_a_normalisation_recommended(tmp_path, shapes_root):
    config = written(tmp_path, 'fd', distillation())
    numbers, page = analyze(tmp_path / 'out', config, '--images',
                            shapes_root / 'imagenet', '--count', 4,
                            '--measures', 'whitening')
    assert [*numbers['networks']] == ['teacher']
    choices = numbers['whitening']['teacher']['choices']
    assert {*choices} == {*whitening.TITLES}
    assert 'Recommended' in page and 'mmfd.TargetNeck' in page


@pytest.mark.parametrize('student_too', [True, False])
def test_each_of_several_teachers_is_shown_and_gets_advice(
        student_too, tmp_path, shapes_root):
    """And its share of the loss that predicting the mean would have."""
    unlike = dict(type='mmfd.TargetNeck', normalize='none')
    model = several(
        clip=branch(clip_teacher(), weight=3.),
        dino=branch(dict(dino_teacher(), neck=unlike)),
        third=branch(clip_teacher(), weight=0))
    config = written(tmp_path, 'fd', model)
    numbers, page = analyze(tmp_path / 'out', config,
                            *['random'] * student_too, '--images',
                            shapes_root / 'imagenet', '--count', 6)
    names = ['teacher clip', 'teacher dino', 'teacher third']
    assert [*numbers['networks']] == names + ['student'] * student_too
    assert [*numbers['whitening']] == names and not numbers['notes']
    for name in names:
        assert f'<h3>{name}</h3><p class="advice">' in page
    shares = numbers['loss_shares']
    assert [shares[name]['weight'] for name in names] == [3, 1, 0]
    parts = [one['weight'] * one['loss'] for one in shares.values()]
    for part, one in zip(parts, shares.values()):
        assert one['loss'] > 0 and one['share'] == part / sum(parts)
        assert f'<td>{one["share"]:.0%}</td>' in page


def test_share_of_a_teacher_is_that_of_the_mean_of_each_position():
    targets = {
        name: scale * torch.randn(6, 5, 16)
        for name, scale in (('teacher a', 3), ('teacher b', 0.1))
    }
    networks = [
        Network(name, None, None, None, None, branch(None)) for name in targets
    ]
    shares = LossShares(networks)
    for name, target in targets.items():
        for batch in target.split(4):
            shares.add(name, batch)
    found = shares.measure(6)
    for name, target in targets.items():
        loss = F.smooth_l1_loss(
            target.mean(0).expand_as(target), target, beta=2.).item()
        assert found[name]['loss'] == pytest.approx(loss, 1e-5)
    assert sum(one['share'] for one in found.values()) == 1
    assert LossShares(networks[:1]).measure(6) == {}


def test_network_without_attention_says_so_and_shows_the_rest(
        tmp_path, shapes_root):
    """Beside one of another depth and grid, with broken and few images."""
    images = tmp_path / 'images'
    images.mkdir()
    for i, path in enumerate(sorted(shapes_root.rglob('*.jpg'))[:7]):
        name = os.fsdecode(b'\xff%d.jpg' % i)  # no text in any encoding
        (images / name).write_bytes(path.read_bytes())
    (images / os.fsdecode(b'\xffbroken.jpg')).write_bytes(b'no image')
    first = written(tmp_path, 'convnext', classifier(CONVNEXT, 32))
    second = written(
        tmp_path, 'vit',
        classifier(student(final_norm=False, out_type='avg_featmap'), 48))
    numbers, page = analyze(tmp_path / 'out', first, 'random', second,
                            'random', '--images', images, '--count', 50,
                            '--landscape-images', 8, '--measures', 'attention',
                            'tokens', 'whitening', 'landscape')
    assert numbers['networks']['convnext']['attention'] == {}
    assert numbers['networks']['convnext']['images'] == 7
    assert len(numbers['networks']['convnext']['tokens']) > 4
    notes = '\n'.join(numbers['notes'])
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
    (['fd.py', 'random', '--batch-size', '0'], '--batch-size 0: one image'),
    (['fd.py', 'random', '--landscape-images', '0', '--measures', 'landscape'
      ], 'at least one'),
    (['vit.py'], 'has no teacher'),
    (['fd.py', 'random', '--cfg-options', 'model.tacher=1'], 'did you mean'),
])
def test_mistakes_are_one_message_and_leave_nothing(tmp_path, shapes_root,
                                                    arguments, message):
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


@pytest.mark.parametrize('in_the_way', ['out', 'out/report.html/x'])
def test_place_of_the_report_is_checked_before_measuring(
        tmp_path, shapes_root, in_the_way):
    config = written(tmp_path, 'fd', distillation())
    (tmp_path / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / in_the_way).write_text('')
    status, output = run('analyze', config, 'random', '--images',
                         shapes_root / 'imagenet', '--out', tmp_path / 'out')
    assert status == 1 and 'Traceback' not in output
    assert 'name another' in output and 'task/s' not in output
