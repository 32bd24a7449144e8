"""From a student to a classifier, and to what it says of images."""
import json

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mmfd
import mmfd.commands.predict
from mmfd.data.scan import find_images
from mmfd.errors import Refused
from mmfd.launch.config_options import read_config
from mmfd.recipes import finetune, runs

PLAN = dict.fromkeys(('out', 'epochs', 'batch_size', 'lr', 'amp'))


def test_predictions_are_as_often_right_as_evaluation_says(
        classifier, shapes_root):
    found, out = classifier
    folder = shapes_root / 'imagenet/val'
    said = mmfd.predict(found, folder, top=10)
    assert len(said) == len([*find_images(folder)]) == 30
    right = [[*image['classes']][0] in image['image'] for image in said]
    assert all(
        sum(image['classes'].values()) == pytest.approx(1) for image in said)
    accuracy = [
        line['accuracy/top1'] for line in runs.history(out)
        if 'accuracy/top1' in line
    ]
    assert 100 * sum(right) / 30 == pytest.approx(accuracy[-1], abs=0.01)
    assert said == mmfd.predict(out, [folder], top=10)


def test_command_prints_lines_or_json(classifier, shapes_root, tmp_path,
                                      monkeypatch, capsys):
    _, out = classifier
    (tmp_path / 'broken.jpg').write_text('no image')
    image = str(next((shapes_root / 'imagenet/val').rglob('*.jpg')))

    def printed(*args):
        monkeypatch.setattr('sys.argv', ['mmfd', *map(str, args)])
        mmfd.commands.predict.main()
        return capsys.readouterr().out

    lines = printed('--model', out, image, tmp_path).splitlines()
    [said] = mmfd.predict(out, image, top=3)
    name, probability = [*said['classes'].items()][0]
    assert lines[-2].startswith(f'{image}  {name} {probability:.3f}  ')
    assert lines[-1] == f'{tmp_path}/broken.jpg  ' + mmfd.predict(
        out, tmp_path)[0]['error']
    text = printed('--model', out, '--json', image)
    assert json.loads(text[text.index('[\n'):]) == [said]


def test_student_of_configs_is_changed_as_their_classifiers_are(
        shapes_root, tmp_path):
    recipe = finetune.plan('configs/demo/student.pth',
                           str(shapes_root / 'imagenet'), **PLAN)
    (tmp_path / 'ours.py').write_text(recipe.text)
    model = read_config(tmp_path / 'ours.py').model
    theirs = read_config('configs/demo/simclr_fd_finished_shapes.py').model
    changed = 'use_rel_pos_bias', 'out_type', 'img_size', 'patch_size'
    for key in changed:
        assert model.backbone[key] == theirs.backbone[key]
    assert not model.backbone.use_shared_rel_pos_bias
    assert model.head.num_classes == 10 and model.neck is None
    assert model.data_preprocessor.mean == theirs.data_preprocessor.mean


def test_images_of_one_class_are_refused(student, shapes_root):
    _, out = student
    folder = shapes_root / 'imagenet/train'
    one = sorted(folder.iterdir())[0]
    with pytest.raises(Refused, match='no class folder|of the class'):
        finetune.plan(str(out), str(one), **PLAN)


def test_what_is_no_classifier_is_refused(student, classifier, tmp_path):
    _, out = student
    with pytest.raises(Refused, match='names no classes'):
        mmfd.load_classifier(out / 'student.safetensors')
    file = classifier[1] / 'classifier.safetensors'
    with safe_open(file, 'pt') as opened:
        meta = opened.metadata()
    weights = load_file(file)
    for change in (dict(classes='["a", "b"]'), dict(classes='7'),
                   dict(img_size='[1e99, 1]'), dict(img_size='[64]'),
                   dict(model=meta['model'].replace('MapMeanNeck', 'X'))):
        save_file(weights, tmp_path / 'bad.safetensors', dict(meta, **change))
        with pytest.raises(Refused, match='bad.safetensors'):
            mmfd.load_classifier(tmp_path / 'bad.safetensors')


def test_folder_of_another_run_is_refused(student, classifier):
    with pytest.raises(Refused, match='no student.safetensors, which mmfd d'):
        mmfd.load_student(classifier[1])
    with pytest.raises(Refused, match='no classifier.safetensors.*finetune w'):
        mmfd.load_classifier(student[1])


def test_less_than_one_class_is_refused(classifier):
    with pytest.raises(Refused, match='top=-1: one or more'):
        mmfd.predict(classifier[0], 'nowhere.jpg', top=-1)


def test_missing_image_is_refused(classifier):
    with pytest.raises(Refused, match='no image and no folder nowhere.jpg'):
        mmfd.predict(classifier[0], 'nowhere.jpg')


def test_names_for_programs_are_found_at_the_top():
    assert mmfd.distill.__module__ == 'mmfd.recipes.distill'
    with pytest.raises(AttributeError, match='nothing'):
        mmfd.nothing
