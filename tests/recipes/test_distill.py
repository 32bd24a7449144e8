"""A distillation by names: the student that is left, and its config."""
import shutil

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers.commands import command
from helpers.models import pixels as random_pixels
from mmengine.config import Config
from mmengine.registry import MODELS
from safetensors.torch import load_file

import mmfd
from mmfd.errors import Refused
from mmfd.launch.config_options import read_config
from mmfd.recipes import distill, runs
from mmfd.weights import checkpoints

PLAN = dict.fromkeys(('out', 'epochs', 'batch_size', 'lr', 'amp'))


def plan(data, teacher, student, img_size=None, **options):
    return distill.plan(
        str(data), teacher, student,
        **dict(PLAN, img_size=img_size, **options))


def config_of(recipe, folder):
    (folder / 'recipe.py').write_text(recipe.text)
    return read_config(folder / 'recipe.py')


def test_tokens_are_the_librarys_own_features(student):
    found, out = student
    weights = load_file(out / 'student.safetensors')
    network = timm.create_model('test_resnet', num_classes=0).eval()
    network.load_state_dict({
        name.removeprefix('backbone.network.'): value
        for name, value in weights.items() if name.startswith('backbone.')
    })
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        features = network.forward_features((pixels.float() - 127.5) / 127.5)
        tokens = found.tokens(pixels)
    assert tokens.shape == (2, 4, 96)
    expected = features.flatten(2).transpose(1, 2)
    assert (tokens - expected).abs().max() < 1e-5
    assert found.facts.img_size == (64, 64) and found.facts.width == 96


def test_student_is_the_same_from_its_file(student):
    found, out = student
    for path in out, out / 'student.safetensors', out / 'epoch_2.pth':
        loaded = mmfd.load_student(path)
        pixels = torch.full((1, 3, 64, 64), 90.)
        assert torch.equal(loaded.tokens(pixels), found.tokens(pixels))
    assert loaded.history == [] and found.history


@pytest.mark.parametrize('shape', [(3, 64, 64), (2, 1, 64, 64), (64, 64)])
def test_pixels_of_another_shape_are_refused(student, shape):
    with pytest.raises(Refused, match=r'expected is .* \(B, 3, H, W\)'):
        student[0].tokens(torch.zeros(shape))


def test_history_has_training_and_held_out_images(student):
    found, _ = student
    held_out = [line for line in found.history if 'held_out/loss' in line]
    losses = [line['loss'] for line in found.history if 'loss' in line]
    assert len(held_out) == 2 and losses[-1] < losses[0]


def test_same_run_is_not_begun_twice_and_goes_on_when_told(
        student, teacher, shapes_root):
    found, out = student
    options = dict(
        data=shapes_root / 'imagenet',
        teacher=teacher,
        student='timm:test_resnet',
        out=out,
        epochs=2,
        img_size=64)
    with pytest.raises(Refused, match='--resume goes on'):
        mmfd.distill(**options)
    with pytest.raises(Refused, match='holds another run'):
        mmfd.distill(**dict(options, epochs=3), resume=True)


def test_what_did_not_begin_leaves_the_folder_to_others(tmp_path):
    first, second = (
        runs.Recipe(name, f'a = {name!r}', [], tmp_path)
        for name in ('first', 'second'))
    runs.write(first, resume=False)
    path = runs.write(second, resume=False)
    assert [*path.parent.iterdir()] == [path]
    assert path.read_text() == second.text


POOL = """
import multiprocessing
import mmfd

def work(options):
    mmfd.distill(**options)

if __name__ == '__main__':
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        pool.map(work, [{options!r}])
"""


@pytest.mark.full
def test_spawned_process_that_may_start_no_others_trains_the_same(
        student, teacher, shapes_root, tmp_path):
    found, _ = student
    options = dict(
        data=str(shapes_root / 'imagenet'),
        teacher=teacher,
        student='timm:test_resnet',
        out=str(tmp_path / 'fd'),
        epochs=2,
        img_size=64)
    (tmp_path / 'pool.py').write_text(POOL.format(options=options))
    command(str(tmp_path / 'pool.py'))
    again = mmfd.load_student(tmp_path / 'fd').state_dict()
    for name, value in found.state_dict().items():
        assert torch.equal(value, again[name]), name


@pytest.mark.full
@pytest.mark.parametrize('name', [
    'mm:resnet18_8xb32_in1k', 'torchvision:resnet18',
    'timm:vit_tiny_patch16_224', 'mmfd:vitb16'
])
def test_students_of_all_libraries_become_classifiers(name, teacher,
                                                      shapes_root, tmp_path):
    options = dict(data=shapes_root / 'imagenet', epochs=1, batch_size=60)
    mmfd.distill(
        teacher=teacher,
        student=name,
        out=tmp_path / 'fd',
        img_size=32,
        **options)
    mmfd.finetune(tmp_path / 'fd', out=tmp_path / 'classifier', **options)
    [said] = mmfd.predict(tmp_path / 'classifier',
                          next((shapes_root / 'imagenet/val').rglob('*.jpg')))
    assert len(said['classes']) == 5


@pytest.mark.full
def test_written_config_trains_the_same(student, tmp_path):
    found, out = student
    [recipe] = (out / 'recipe').glob('*.py')
    command('train', recipe, '--work-dir', tmp_path)
    again = mmfd.load_student(tmp_path / 'epoch_2.pth').state_dict()
    for name, value in found.state_dict().items():
        assert torch.equal(value, again[name]), name


@pytest.mark.full
def test_batch_of_one_value_per_channel_is_one_message(teacher, shapes_root,
                                                       tmp_path):
    with pytest.raises(Refused, match='from one image whose map is 1 x 1'):
        mmfd.distill(
            shapes_root / 'imagenet',
            teacher,
            'timm:test_resnet',
            tmp_path / 'fd',
            img_size=32,
            batch_size=1)


def test_size_is_one_key(teacher, shapes_root, tmp_path):
    recipe = plan(shapes_root / 'imagenet', teacher, 'timm:test_convnext',
                  (64, 96))
    cfg = config_of(recipe, tmp_path)
    crop, *_ = cfg.train_dataloader.dataset.pipeline
    *_, cut, _ = cfg.val_dataloader.dataset.pipeline
    assert crop.crop.scale == (64, 96)
    assert cut.crop_size == (96, 64)  # mmcv's order is (W, H)
    assert [*cfg.model.teacher.backbone.img_size] == [64, 96]
    assert cfg.model.teacher.neck.grid == (2, 3)  # the student's, 32 pixels


@pytest.mark.parametrize('student', ['test_convnext', 'test_resnet'])
def test_dry_run_where_patches_do_not_cover_the_image(teacher, student,
                                                      shapes_root, tmp_path,
                                                      capfd):
    """80 = 2.5 x 32: one of these has a map of 2 x 2, the other of 3 x 3."""
    found = mmfd.distill(
        shapes_root / 'imagenet',
        teacher,
        f'timm:{student}',
        tmp_path / 'run',
        epochs=3,
        img_size=80,
        dry_run=True)
    assert found is None and not (tmp_path / 'run').exists()
    assert 'iterations of ' in capfd.readouterr().out


def test_networks_alike_meet_on_all_tokens(teacher, shapes_root, tmp_path):
    cfg = config_of(
        plan(shapes_root / 'imagenet', teacher, 'timm:test_vit', 48), tmp_path)
    assert 'tokens' not in cfg.model.neck and 'grid' not in cfg.model.neck
    assert cfg.model.neck.in_channels == cfg.model.neck.out_channels == 64


def test_several_teachers_meet_the_student_each_in_its_own_way(
        teacher, shapes_root, tmp_path):
    """A ViT of the same tokens, and a network without cls on a coarse grid."""
    teachers = [teacher, 'timm:test_resnet', teacher]
    torch.save(
        timm.create_model('test_resnet').state_dict(), tmp_path / 'r.pth')
    teachers[1] += f'={tmp_path / "r.pth"}'
    recipe = plan(shapes_root / 'imagenet', teachers, 'timm:test_vit', 64)
    cfg = config_of(recipe, tmp_path)
    alike, coarse, again = cfg.model.branches.values()
    assert [*cfg.model.branches] == ['test_vit', 'test_resnet', 'test_vit__2']
    assert 'tokens' not in alike.neck and alike == again
    assert coarse.neck.tokens == coarse.teacher.neck.tokens == 'map'
    assert coarse.neck.grid == coarse.teacher.neck.grid == (2, 2)
    base = Config.fromfile('configs/_base_/several_teachers.py').branch
    for branch in cfg.model.branches.values():
        assert branch.head == base.head and branch.neck.type == base.neck.type
    model = MODELS.build(cfg.model)
    losses = model.loss(random_pixels(2, 64))
    assert {*losses} == {f'loss_{name}' for name in cfg.model.branches}
    assert recipe.name == 'test_vit_from_' + '_and_'.join(cfg.model.branches)


@pytest.mark.full
def test_student_becomes_the_teacher_of_the_next_stage(teacher, shapes_root,
                                                       tmp_path, monkeypatch):
    planned, plan = [], distill.plan

    def noted(*args):
        planned.append(plan(*args))
        return planned[-1]

    monkeypatch.setattr(distill, 'plan', noted)
    options = dict(
        data=shapes_root / 'imagenet',
        teacher=teacher,
        student='timm:test_resnet',
        out=str(tmp_path / 'fd'),
        epochs=1,
        img_size=64,
        stages=2)
    last = mmfd.distill(**options)
    assert [recipe.out for recipe in planned
            ] == [str(tmp_path / 'fd/stage_1'),
                  str(tmp_path / 'fd')]
    first = mmfd.load_student(tmp_path / 'fd/stage_1')
    cfg = read_config(next((tmp_path / 'fd/recipe').glob('*.py')))
    taught_by = MODELS.build(cfg.model.teacher)
    x = random_pixels(2, 64)
    maps = first.eval().tokens(x)
    torch.testing.assert_close(
        taught_by(x), F.layer_norm(maps, maps.shape[-1:]), rtol=0, atol=1e-4)
    assert not torch.equal(last.tokens(x), maps)
    meta = checkpoints.meta(tmp_path / 'fd/student.safetensors')
    assert meta['teacher.teacher.file'] == 'vit.safetensors'
    # what was stopped in the second stage does not begin the first anew
    before = (tmp_path / 'fd/stage_1/student.safetensors').stat().st_mtime_ns
    for file in (tmp_path / 'fd').glob('epoch_*'):
        file.unlink()
    mmfd.distill(**options, resume=True)
    after = (tmp_path / 'fd/stage_1/student.safetensors').stat().st_mtime_ns
    assert before == after
    with pytest.raises(Refused, match='stages=0'):
        mmfd.distill(**dict(options, stages=0))


def test_a_stage_of_another_run_is_not_gone_on_from(student, teacher,
                                                    shapes_root, tmp_path):
    """Nor taken for the teacher of the next stage, though it has ended."""
    _, trained = student
    stage, data = tmp_path / 'stage_1', shapes_root / 'imagenet'
    recipe = plan(
        data, teacher, 'timm:test_resnet', 64, out=str(stage), epochs=2)
    runs.write(recipe, resume=False)
    for name in 'epoch_2.pth', 'student.safetensors':
        shutil.copy(trained / name, stage)
    with pytest.raises(Refused, match='stage_1 holds another run'):
        mmfd.distill(
            data,
            teacher,
            'timm:test_resnet',
            tmp_path,
            epochs=3,
            img_size=64,
            stages=2,
            resume=True)
    assert not (tmp_path / 'recipe').exists()


def test_images_are_held_out_where_no_folder_is(teacher, shapes_root,
                                                tmp_path):
    recipe = plan(shapes_root / 'imagenet' / 'train', teacher, 'timm:test_vit')
    cfg = config_of(recipe, tmp_path)
    assert cfg.train_dataloader.dataset.held_out == 0.1  # 12 of 120
    assert cfg.val_dataloader.dataset.held_out == 0.1
    assert cfg.work_dir.endswith('work_dirs/test_vit_from_test_vit')


REFUSED = [
    (dict(student='timm:test_resnett'), 'test_resnet'),
    (dict(student='resnet50'), 'LIBRARY:NAME'),
    (dict(student=['timm:test_resnet']), 'LIBRARY:NAME'),
    (dict(student=torch.nn.Identity()), 'Identity.. names no network'),
    (dict(teacher='timm:test_vit=nowhere.pth'), 'nowhere.pth'),
    (dict(student='timm:test_vit', img_size=50), '50'),
    (dict(img_size=0), 'img_size=0: expected is a side'),
    (dict(batch_size=121), 'batch_size=121 of 120 images: .* 120 or fewer'),
    (dict(epochs='2'), "epochs='2': a number above 0"),
    (dict(data='tests/recipes'), 'no images in .*tests/recipes.*--data'),
]


@pytest.mark.parametrize('change, message', REFUSED)
def test_what_cannot_be_is_said_before_anything_is_built(
        change, message, teacher, shapes_root):
    options = dict(
        data=shapes_root / 'imagenet',
        teacher=teacher,
        student='timm:test_resnet')
    with pytest.raises(Refused, match=message):
        plan(**dict(options, **change))
