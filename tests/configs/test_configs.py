"""Every config builds what its docstring says, without a download."""
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmfd.hosts import mmcv_ops
from mmfd.weights.meta_device import RealSchedules

mmcv_ops.install()  # before mmdet is imported
SCOPE = DefaultScope.overwrite_default_scope
LEAVES = sorted(
    str(path) for path in Path('configs').glob('*/*.py')
    if path.parent.name != '_base_')


def neutral(cfg):
    """Without the weights, which are the user's to bring."""
    model = cfg.model
    if 'teacher' in model:
        model.teacher.checkpoint = 'random'
    if model.backbone.get('init_cfg'):
        model.backbone.init_cfg = None
    return model


BUILT = {}  # many leaves have the model of another


def weightless(leaf):
    """The model of a config, on the meta device."""
    cfg = Config.fromfile(leaf)
    scope, model = cfg.get('default_scope') or 'mmpretrain', neutral(cfg)
    key = scope, repr(model)
    if key not in BUILT:
        with torch.device('meta'), RealSchedules(), SCOPE(scope):
            BUILT[key] = MODELS.build(model)
    return BUILT[key]


@pytest.mark.parametrize('leaf', LEAVES)
def test_model_of_every_config_builds(leaf):
    assert sum(p.numel() for p in weightless(leaf).parameters()) > 1e5


@pytest.mark.parametrize('leaf', LEAVES)
def test_docstring_ends_with_the_command_that_runs_it(leaf):
    docstring = re.match(r'r?"""(.*?)"""', Path(leaf).read_text(), re.S)[1]
    assert leaf in docstring or 'make demo-teacher' in docstring


@pytest.mark.parametrize('leaf', [x for x in LEAVES if x[8:10] == 'fd'])
def test_no_config_trains_against_random_weights_unasked(leaf):
    teacher = Config.fromfile(leaf).model.teacher
    assert teacher.checkpoint.endswith('.pth') and teacher.source


# Facts of the official yaml files; the rows that have none are assumed.
DISTILLATION = {  # epochs, drop path, smallest crop, size, images a GPU
    'clip_vitb_fd': (300, 0.2, 0.08, 224, 128),
    'clip_vitb_fd_100e': (100, 0.1, 0.67, 224, 128),
    'clip_vitl_fd': (300, 0.3, 0.08, 224, 128),
    'dino_vitb_fd': (300, 0.3, 0.08, 224, 128),
    'deit_vitb_fd': (300, 0.3, 0.08, 224, 128),
    'mae_vitb_fd': (300, 0.3, 0.08, 224, 128),  # assumed
    'clip_vitl336_fd': (300, 0.3, 0.08, 336, 64),  # assumed
}


@pytest.mark.parametrize('name', DISTILLATION)
def test_distillation_has_the_papers_numbers(name):
    epochs, drop_path, smallest, size, batch = DISTILLATION[name]
    cfg = Config.fromfile(f'configs/fd/{name}.py')
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer == dict(
        type='AdamW', lr=3e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=3.0)
    curve = cfg.default_hooks.param_scheduler
    assert (curve.warmup_epochs, curve.warmup_lr, curve.min_lr) == (10, 5e-7,
                                                                    5e-6)
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert cfg.model.backbone.layer_scale_init_value == 0.1
    assert cfg.model.backbone.img_size == cfg.model.teacher.img_size == size
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.train_dataloader.drop_last
    assert cfg.model.head.loss == dict(type='torch.nn.SmoothL1Loss', beta=2.0)
    load, flip = cfg.train_dataloader.dataset.pipeline[:2]
    crop = load.crop
    assert (crop.scale, crop.crop_ratio_range) == (size, (smallest, 1.0))
    assert (load.type, crop.interpolation) == ('mmfd.LoadCrop', 'bilinear')
    assert flip.prob == 0.5
    assert_evaluates_centre_crops(cfg, size, 'bilinear')


FINE_TUNING = {  # epochs, warm-up, lr, first and last lr, layer decay, drop
    # path, size, images a GPU; the rates are per 512 images
    'clip_vitb_fd_in1k': (100, 20, 1.25e-3, 2.5e-7, 0.6, 0.3, 224, 128),
    'clip_vitb_fd_100e_in1k': (100, 20, 1.25e-3, 2.5e-7, 0.65, 0.1, 224, 128),
    'clip_vitl_fd_in1k': (50, 5, 2.5e-4, 5e-7, 0.75, 0.4, 224, 128),
    'dino_vitb_fd_in1k': (100, 20, 1.5e-3, 2.5e-7, 0.6, 0.2, 224, 128),
    'deit_vitb_fd_in1k': (100, 20, 1.25e-3, 2.5e-7, 0.65, 0.3, 224, 128),
    'mae_vitb_fd_in1k': (100, 20, 1.25e-3, 2.5e-7, 0.65, 0.3, 224, 128),
    'clip_vitl336_fd_in1k': (50, 5, 2.5e-4, 5e-7, 0.75, 0.4, 336, 64),
    # BEiT's
    'clip_vitl_fd_in22k': (90, 5, 5e-4, 2.5e-7, 0.75, 0.2, 224, 128),
    'clip_vitl336_fd_in22k_in1k': (30, 5, 2e-5, 1e-6, 0.9, 0.4, 336, 32),
}


@pytest.mark.parametrize('name', FINE_TUNING)
def test_fine_tuning_has_the_papers_numbers(name):
    epochs, warmup, lr, ends, decay, drop_path, size, batch = FINE_TUNING[name]
    cfg = Config.fromfile(f'configs/classification/{name}.py')
    curve, optim = cfg.default_hooks.param_scheduler, cfg.optim_wrapper
    assert (cfg.train_cfg.max_epochs, curve.warmup_epochs) == (epochs, warmup)
    assert optim.optimizer.lr == lr
    assert curve.warmup_lr == curve.min_lr == ends
    assert optim.paramwise_cfg.layer_decay == decay
    backbone, head = cfg.model.backbone, cfg.model.head
    assert (backbone.img_size, backbone.drop_path_rate) == (size, drop_path)
    assert backbone.layer_scale_init_value == 0.1
    assert backbone.use_rel_pos_bias and not backbone.use_shared_rel_pos_bias
    assert backbone.out_type == 'avg_featmap'
    assert head.init_cfg.std == 2e-5
    assert head.loss.label_smooth_val == 0.1
    loader = cfg.train_dataloader
    assert (loader.batch_size, loader.drop_last) == (batch, True)
    load, flip, augment, erase = loader.dataset.pipeline[:4]
    crop = load.crop
    assert (crop.scale, crop.crop_ratio_range) == (size, (0.08, 1.0))
    assert (load.type, crop.interpolation) == ('mmfd.LoadCrop', 'bicubic')
    assert (augment.num_policies, augment.magnitude_level) == (2, 9)
    assert (augment.policies, augment.magnitude_std) == ('timm_increasing',
                                                         0.5)
    assert (erase.erase_prob, erase.mode) == (0.25, 'rand')
    assert (erase.min_area_ratio, erase.max_area_ratio) == (0.02, 1 / 3)
    assert_evaluates_centre_crops(cfg, size, 'bicubic')


def assert_evaluates_centre_crops(cfg, size, interpolation):
    assert cfg.val_dataloader == cfg.test_dataloader
    resize, centre = cfg.val_dataloader.dataset.pipeline[1:3]
    assert (resize.scale, resize.edge) == (size * 256 // 224, 'short')
    assert resize.interpolation == interpolation
    assert centre.crop_size == size


@pytest.mark.parametrize('name', FINE_TUNING)
def test_only_the_stages_of_beit_leave_out_mixup(name):
    cfg = Config.fromfile(f'configs/classification/{name}.py')
    weight_decay = cfg.optim_wrapper.optimizer.weight_decay
    clip, augments = cfg.optim_wrapper.clip_grad, cfg.model.train_cfg
    if name == 'clip_vitl_fd_in22k':
        assert (weight_decay, clip.max_norm, augments) == (0.05, 1.0, None)
    elif name == 'clip_vitl336_fd_in22k_in1k':
        assert (weight_decay, clip, augments) == (1e-8, None, None)
    else:
        assert (weight_decay, clip.max_norm) == (0.05, 5.0)
        assert [(a.type[11:], a.alpha)
                for a in augments.augments] == [('Mixup', 0.8),
                                                ('CutMix', 1.0)]


def test_imagenet_22k_has_all_its_classes_and_holds_few_images_out():
    cfg = Config.fromfile('configs/classification/clip_vitl_fd_in22k.py')
    assert cfg.model.head.num_classes == 21841
    assert cfg.model.data_preprocessor.num_classes == 21841
    for loader in cfg.train_dataloader, cfg.val_dataloader:
        assert loader.dataset.data_root == 'data/imagenet22k'
        assert loader.dataset.held_out == 0.001


LINEAR = [
    x for x in LEAVES if 'classification' in x and x.endswith('_linear.py')
]


@pytest.mark.parametrize('leaf', LINEAR)
def test_linear_probe_has_maes_numbers(leaf):
    cfg = Config.fromfile(leaf)
    model, optim = cfg.model, cfg.optim_wrapper
    assert cfg.train_cfg.max_epochs == 90
    assert optim.optimizer == dict(
        type='mmfd.LARS', lr=0.2, momentum=0.9, weight_decay=0.)
    assert 'clip_grad' not in optim and 'paramwise_cfg' not in optim
    curve = cfg.default_hooks.param_scheduler
    assert (curve.warmup_epochs, curve.warmup_lr, curve.min_lr) == (10, 0, 0)
    assert cfg.train_dataloader.batch_size * 16 * 0.2 / 512 == 6.4
    assert model.type == 'mmfd.LinearProbe'
    norm = model.neck[-1] if 'swin' in leaf else model.neck
    assert norm.type == 'mmpretrain.ClsBatchNormNeck'
    assert norm.input_features == model.head.in_channels
    assert model.head.loss == dict(type='mmpretrain.CrossEntropyLoss')
    assert model.head.init_cfg.std == 0.01
    assert 'train_cfg' not in model  # neither mixup nor cutmix
    if 'swin' in leaf:
        assert model.neck[0].type == 'mmpretrain.GlobalAveragePooling'
    else:
        expected = 'avg_featmap' if '_fd_' in leaf else 'cls_token'
        assert model.backbone.out_type == expected
    assert model.backbone.get('drop_path_rate', 0.) == 0.
    size = model.backbone.img_size
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert [t.type for t in pipeline] == [
        'mmfd.LoadCrop', 'mmpretrain.RandomFlip', 'mmpretrain.PackInputs'
    ]
    crop = pipeline[0].crop
    assert (crop.type, crop.scale, crop.crop_ratio_range,
            crop.interpolation) == ('mmfd.ClampedCrop', size, (0.08, 1.0),
                                    'bicubic')
    assert_evaluates_centre_crops(cfg, size, 'bicubic')


STARTED = [
    x for x in LEAVES
    if x.split('/')[1] in ('classification', 'ade20k', 'coco')
]


@pytest.mark.parametrize('leaf', STARTED)
def test_every_downstream_starts_from_weights_it_can_name(leaf):
    """A student from a run whose config is there, a teacher from its file."""
    cfg = Config.fromfile(leaf)
    init = cfg.model.backbone.init_cfg
    assert init.type == 'Pretrained'
    if '_fd_' not in leaf:
        assert init.checkpoint == cfg.teacher.checkpoint
        assert 'tools/convert.py' in cfg.source
        return
    run, epoch = re.fullmatch(r'work_dirs/(\w+)/epoch_(\d+)\.pth',
                              init.checkpoint).groups()
    [config] = Path('configs').glob(f'*/{run}.py')
    assert Config.fromfile(config).train_cfg.max_epochs == int(epoch)
    assert str(config) in cfg.source
    assert init.prefix == 'backbone.'


def test_teachers_differ_only_in_what_is_their_own():
    clip, dino = (
        Config.fromfile(f'configs/_base_/teachers/{x}_vitb16.py').teacher
        for x in ('clip', 'dino'))
    assert (clip.backbone.pop('norm_cfg').eps,
            dino.backbone.pop('norm_cfg').eps) == (1e-5, 1e-6)
    assert clip.backbone.pop('pre_norm') and clip.backbone.pop('layer_cfgs')
    assert clip.backbone == dino.backbone and clip.neck == dino.neck
    assert dino.normalize.mean == [123.675, 116.28, 103.53]
    assert dino.normalize.std == [58.395, 57.12, 57.375]
    assert dino.img_size == clip.img_size == 224


@pytest.mark.parametrize('teacher', [
    'clip_vitb', 'clip_vitl', 'clip_vitl336', 'dino_vitb', 'deit_vitb',
    'mae_vitb', 'esvit_swinb', 'swinv2g'
])
def test_before_column_has_the_recipe_of_its_student(teacher):
    before, after = (
        Config.fromfile(f'configs/classification/{teacher}{x}_in1k.py')
        for x in ('', '_fd'))
    same = ('train_cfg', 'train_dataloader', 'val_dataloader', 'default_hooks')
    assert all(before[key] == after[key] for key in same)
    groups = before.optim_wrapper.paramwise_cfg
    tables = groups.pop('no_decay', ())  # Swin V1 has them, V2 computes them
    assert ('relative_position_bias_table' in tables) == (
        teacher == 'esvit_swinb')
    stem = groups.pop('stem', ())
    clip = teacher.startswith('clip')
    assert stem == (('pre_norm', ) if clip else ())  # the host says: last
    assert before.optim_wrapper == after.optim_wrapper
    assert before.model.head == after.model.head
    assert before.model.train_cfg == after.model.train_cfg
    drop_path = after.model.backbone.drop_path_rate
    assert before.model.backbone.drop_path_rate == drop_path


DENSE = [x for x in STARTED if 'classification' not in x]
BEFORE = [x for x in DENSE if '_fd_' not in x]


@pytest.mark.parametrize('leaf', BEFORE)
def test_before_of_a_dense_task_has_the_recipe_of_its_student(leaf):
    network = re.search(r'/(\w+_(vit|swin)[bl]|swinv2g)_', leaf)[1]
    before, after = map(Config.fromfile,
                        (leaf, leaf.replace(network, f'{network}_fd')))
    for key in ('train_cfg', 'train_dataloader', 'test_dataloader',
                'param_scheduler', 'test_evaluator'):
        assert before[key] == after[key]
    groups = before.optim_wrapper.get('paramwise_cfg', {})
    assert groups.pop(
        'stem',
        ()) == (('pre_norm', ) if 'clip' in leaf and 'linear' not in leaf else
                ())
    assert before.optim_wrapper == after.optim_wrapper
    assert 'LayerDecay' in before.optim_wrapper.get(
        'constructor', '') or 'swinb' in leaf or 'linear' in leaf
    ours, theirs = after.model, before.model
    for key in set(ours) - {'backbone', 'data_preprocessor'}:
        assert ours[key] == theirs[key], key
    assert theirs.data_preprocessor.mean == before.teacher.normalize.mean
    assert theirs.data_preprocessor.std == before.teacher.normalize.std
    assert ours.data_preprocessor.mean == after.statistics.mean
    assert theirs.backbone.get('drop_path_rate',
                               0.) == ours.backbone.drop_path_rate


RECIPES = {  # lr, decay of weights, of layers, drop path, crop, iterations
    'ade20k/clip_vitb_fd_ade20k': (7e-4, 0.05, 0.65, 0.1, 512, 160000),
    'ade20k/dino_vitb_fd_ade20k': (7e-4, 0.05, 0.65, 0.1, 512, 160000),
    'ade20k/deit_vitb_fd_ade20k': (7e-4, 0.05, 0.65, 0.1, 512, 160000),
    'ade20k/clip_vitl_fd_ade20k': (7e-4, 0.05, 0.75, 0.2, 504, 160000),
    'ade20k/esvit_swinb_fd_ade20k': (6e-5, 0.01, None, 0.3, 512, 160000),
    'ade20k/swinv2g_fd_ade20k': (4e-5, 0.05, 0.95, 0.3, 896, 160000),
}


@pytest.mark.parametrize('name', RECIPES)
def test_segmentor_has_the_numbers_of_its_readme(name):
    lr, weight_decay, decay, drop_path, crop, iterations = RECIPES[name]
    cfg = Config.fromfile(f'configs/{name}.py')
    optim = cfg.optim_wrapper
    assert (optim.optimizer.type, optim.optimizer.lr,
            optim.optimizer.weight_decay) == ('AdamW', lr, weight_decay)
    assert optim.paramwise_cfg.get('layer_decay') == decay
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert cfg.train_cfg.max_iters == iterations
    assert cfg.param_scheduler[-1].end == iterations
    size = (crop, crop)
    [cropped] = [
        t for t in cfg.train_dataloader.dataset.pipeline
        if t.type == 'RandomCrop'
    ]
    assert cropped.crop_size == cfg.model.data_preprocessor.size == size
    test = cfg.model.test_cfg
    assert test.mode == 'whole' or test.crop_size == size
    assert cfg.tta_pipeline and cfg.tta_model
    if 'swinb' in name:
        undecayed = {
            key
            for key, value in optim.paramwise_cfg.custom_keys.items()
            if value.decay_mult == 0
        }
        assert {'norm', 'cpb_mlp', 'logit_scale'} < undecayed
    if '_vit' in name:
        assert cfg.model.backbone.out_indices in ([3, 5, 7,
                                                   11], [7, 11, 15, 23])
        assert crop % cfg.model.backbone.patch_size == 0


@pytest.mark.parametrize('leaf', [x for x in DENSE if 'coco' in x])
def test_detector_has_the_schedule_of_its_name(leaf):
    cfg = Config.fromfile(leaf)
    epochs = 36 if '_3x' in leaf else 12
    assert cfg.train_cfg.max_epochs == epochs
    steps = cfg.param_scheduler[-1]
    assert steps.end == epochs
    assert steps.milestones == ([27, 33] if epochs == 36 else [8, 11])
    assert 'mmfd.hosts.mmcv_ops' in cfg.custom_imports.imports
    kinds = [t.type for t in cfg.train_dataloader.dataset.pipeline]
    jitter = 'htc' in leaf or '_3x' in leaf and 'vit' in leaf.split('_')[1]
    assert ('RandomCrop' in kinds) == jitter
    backbone = cfg.model.backbone
    if '_fd_' in leaf and 'clip' in leaf:
        side = backbone.img_size // backbone.patch_size
        assert backbone.window_size == side  # so its table is used as it is
        depth = 12 if backbone.arch == 'base' else 24
        assert backbone.global_blocks == [
            *range(depth // 4 - 1, depth, depth // 4)
        ]
    scale = dict(clip_vitl=3.5).get('_'.join(Path(leaf).stem.split('_')[:2]),
                                    4)
    assert cfg.model.rpn_head.anchor_generator.strides == [
        scale * 2**i for i in range(5)
    ]


@pytest.mark.parametrize('leaf', [x for x in DENSE if 'linear' in x])
def test_linear_layer_is_all_that_is_trained(leaf):
    model = weightless(leaf)
    trained = {
        name
        for name, param in model.named_parameters() if param.requires_grad
    }
    assert trained == {
        'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'
    }
