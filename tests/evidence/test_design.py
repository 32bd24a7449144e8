"""Which runs there are follows from the logs of others."""
import pytest
from mmengine.registry import MODELS


@pytest.fixture
def design(monkeypatch):
    monkeypatch.syspath_prepend('evidence')
    import design
    return design


def logs_of(runs, best):
    """Logs in which the rate `best` does best."""
    rate = 'optim_wrapper.optimizer.lr'
    return {
        run.name:
        dict(score=50 - abs(run.steps[-1].options.get(rate, 0) - best))
        for run in runs
    }


def grow(design, best):
    """The runs when each that can be named has its log."""
    logs, count = {}, -1
    while len(logs) > count:
        count = len(logs)
        logs = logs_of(design.runs(logs), best) | logs
    return design.runs(logs)


def test_no_classifier_is_named_for_the_end_before_its_rate_is_chosen(design):
    named = [run for run in design.runs({}) if 'final' in run.images]
    assert named and all(run.steps[-1].is_distillation for run in named)


def test_five_seeds_of_simclr_and_three_of_the_others_before_and_after(design):
    names = [run.name for run in grow(design, 8e-3)]
    assert len(names) == len(set(names))
    for kind, seeds in dict(simclr=5, labels=3, captions=3, masked=3).items():
        for arm in 'before_12', 'fd_30':
            final = f'final_{kind}_{arm}_epochs_lr8e-3_seed'
            assert [n for n in names if n.startswith(final)
                    ] == [f'{final}{seed}' for seed in range(seeds)]


@pytest.mark.parametrize('best, rates', [
    (8e-3, [4e-3, 8e-3, 16e-3]),
    (4e-3, [4e-3, 8e-3, 16e-3, 2e-3]),
    (32e-3, [4e-3, 8e-3, 16e-3, 32e-3, 64e-3]),
])
def test_list_of_rates_grows_for_both_while_the_best_is_at_its_edge(
        design, best, rates):
    tried = {(run.steps[-1].config, run.steps[-1].options[key])
             for run in grow(design, best)
             for key in ['optim_wrapper.optimizer.lr']
             if run.name.startswith('selection_simclr')}
    assert tried == {(f'{task}{arm}_small', rate)
                     for task in ('', 'segment_')
                     for arm in ('before', 'after')
                     for rate in rates}


def test_no_final_run_has_the_seed_that_rates_were_chosen_by(design):
    runs = [run for run in grow(design, 8e-3) if 'final' in run.images]
    seeds = {step.options['randomness.seed'] for x in runs for step in x.steps}
    assert seeds == set(range(5))


def test_runs_of_the_captions_are_all_on_drawn_images(design):
    steps = [
        step for run in grow(design, 8e-3) if 'captions' in run.name
        for step in run.steps if not step.images.startswith('camvid')
    ]
    sets = {step.images for step in steps}
    assert sets == {'shapes_selection', 'shapes_final'}


def test_what_segments_is_the_student_that_classifies(design):
    runs = {run.name: run for run in grow(design, 8e-3)}
    for kind, seeds in design.SEEDS.items():
        for seed in range(seeds):
            classifies, segments = (
                runs[f'final_{kind}_{task}_lr8e-3_seed{seed}']
                for task in ('fd_30_epochs', 'after_segment'))
            assert segments.images == 'camvid_final'
            assert segments.steps[0] == classifies.steps[0]


def test_run_again_has_folders_of_its_own(design):
    [run] = [
        run for run in grow(design, 8e-3)
        if run.name == 'final_simclr_fd_30_epochs_lr8e-3_seed0'
    ]
    fd, tuned = design.elsewhere(run, 'again').steps
    start = tuned.options['model.backbone.init_cfg.checkpoint']
    assert start == fd.checkpoint
    assert start.startswith('work_dirs/small/again/')


def test_run_of_three_steps_again_has_folders_of_its_own(design):
    first, second, tuned = design.elsewhere(design.staged(8e-3), 'again').steps
    assert second.options['model.teacher.checkpoint'] == first.checkpoint
    assert tuned.options[
        'model.backbone.init_cfg.checkpoint'] == second.checkpoint
    assert second.checkpoint.startswith('work_dirs/small/again/')


def test_student_of_two_teachers_waits_for_both(design):
    run = design.both('final', 8e-3, 0)
    assert design.needed(run) == {'simclr_teacher', 'labels_teacher'}


OTHER_TARGETS = {  # name -> classes of the model, the target and the loss
    'PHI-S': ('FeatureDistillation', 'TargetNeck', 'SmoothL1Loss'),
    'running standardisation':
    ('FeatureDistillation', 'TargetNeck', 'SmoothL1Loss'),
    'cosine': ('FeatureDistillation', 'WhiteningNeck', 'CosineLoss'),
    'cosine and smooth L1':
    ('FeatureDistillation', 'WhiteningNeck', 'SumOfLosses'),
    'tokens of hidden patches':
    ('MaskedFeatureDistillation', 'WhiteningNeck', 'SmoothL1Loss'),
}


def test_other_targets_are_what_their_names_say(design, tmp_path):
    import evaluate
    import train
    assert OTHER_TARGETS.keys() == design.TARGETS.keys()
    for name, expected in OTHER_TARGETS.items():
        step, _ = design.target(name, 8e-3).steps
        cfg = evaluate.read(train.config_of(step), step.options, tmp_path)
        model = MODELS.build(cfg.model)
        parts = model, model.teacher.neck, model.head.criterion
        assert tuple(type(part).__name__ for part in parts) == expected
