"""Recipes have the numbers of the paper and of the README files."""
import argparse
import shlex
from pathlib import Path

from helpers.configs import check_all, leaves, load, on_meta_device

from mmfd.launch.command_line import add_arguments
from mmfd.launch.config_options import override

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
SEGMENTATION = {  # lr, decay of weights, of layers, drop path, crop
    'clip_vitb_fd_ade20k': (7e-4, 0.05, 0.65, 0.1, 512),
    'dino_vitb_fd_ade20k': (7e-4, 0.05, 0.65, 0.1, 512),
    'deit_vitb_fd_ade20k': (7e-4, 0.05, 0.65, 0.1, 512),
    'clip_vitl_fd_ade20k': (7e-4, 0.05, 0.75, 0.2, 504),
    'esvit_swinb_fd_ade20k': (6e-5, 0.01, None, 0.3, 512),
    'swinv2b_fd_ade20k': (4e-5, 0.05, 0.95, 0.3, 640),
    'swinv2l_fd_ade20k': (4e-5, 0.05, 0.95, 0.3, 640),
    'swinv2g_fd_ade20k': (4e-5, 0.05, 0.95, 0.3, 640),
}
BEFORE = [  # with a config that does the same after FD
    x for x in leaves('classification', 'ade20k', 'coco') if '_fd_' not in x
]


def after(leaf):
    """The config of the student that this one is compared with."""
    folder, name = Path(leaf).parent, Path(leaf).stem
    [same] = [
        x for x in leaves(folder.name)
        if '_fd' in x and Path(x).stem.replace('_fd', '') == name
    ]
    return same


def assert_evaluates_centre_crops(cfg, size, interpolation):
    assert cfg.val_dataloader == cfg.test_dataloader
    resize, centre = cfg.val_dataloader.dataset.pipeline[1:3]
    assert (resize.scale, resize.edge) == (size * 256 // 224, 'short')
    assert resize.interpolation == interpolation
    assert centre.crop_size == size


def test_distillation_has_the_papers_numbers():

    def check(name):
        epochs, drop_path, smallest, size, batch = DISTILLATION[name]
        cfg = load(f'configs/fd/{name}.py')
        assert cfg.train_cfg.max_epochs == epochs
        assert cfg.optim_wrapper.optimizer == dict(
            type='AdamW',
            lr=3e-4,
            betas=(0.9, 0.999),
            eps=1e-8,
            weight_decay=0.05)
        assert cfg.optim_wrapper.clip_grad == dict(max_norm=3.0)
        curve = cfg.default_hooks.param_scheduler
        assert (curve.warmup_epochs, curve.warmup_lr,
                curve.min_lr) == (10, 5e-7, 5e-6)
        assert cfg.model.backbone.drop_path_rate == drop_path
        assert cfg.model.backbone.layer_scale_init_value == 0.1
        assert cfg.model.backbone.img_size == size
        assert cfg.model.teacher.img_size == size
        assert cfg.train_dataloader.batch_size == batch
        assert cfg.train_dataloader.drop_last
        assert cfg.model.head.loss == dict(
            type='torch.nn.SmoothL1Loss', beta=2.0)
        cropped, flip = cfg.train_dataloader.dataset.pipeline[:2]
        crop = cropped.crop
        assert (crop.scale, crop.crop_ratio_range) == (size, (smallest, 1.0))
        assert (cropped.type, crop.interpolation) == ('mmfd.LoadCrop',
                                                      'bilinear')
        assert flip.prob == 0.5
        assert_evaluates_centre_crops(cfg, size, 'bilinear')

    check_all(check, DISTILLATION)


def test_short_distillation_differs_in_length_crops_and_drop_path():
    """Official file `fd_pretrain__clip_vit_base__img224__100ep.yaml`."""
    short, long = (
        load(f'configs/fd/clip_vitb_fd{x}.py') for x in ('_100e', ''))
    short.train_dataloader.dataset.pipeline[0].crop.crop_ratio_range = (0.08,
                                                                        1.0)
    short.model.backbone.drop_path_rate = 0.2
    short.train_cfg.max_epochs = 300
    for key in ('model', 'train_cfg', 'train_dataloader', 'val_dataloader',
                'optim_wrapper', 'default_hooks'):
        assert short[key] == long[key], key


def test_fine_tuning_has_the_papers_numbers():

    def check(name):
        epochs, warmup, lr, ends, decay, drop_path, size, batch = FINE_TUNING[
            name]
        cfg = load(f'configs/classification/{name}.py')
        curve, optim = cfg.default_hooks.param_scheduler, cfg.optim_wrapper
        assert cfg.train_cfg.max_epochs == epochs
        assert curve.warmup_epochs == warmup
        assert optim.optimizer.lr == lr
        assert curve.warmup_lr == curve.min_lr == ends
        assert optim.paramwise_cfg.layer_decay == decay
        backbone, head = cfg.model.backbone, cfg.model.head
        assert (backbone.img_size, backbone.drop_path_rate) == (size,
                                                                drop_path)
        assert backbone.layer_scale_init_value == 0.1
        assert backbone.use_rel_pos_bias
        assert not backbone.use_shared_rel_pos_bias
        assert backbone.out_type == 'avg_featmap'
        assert head.init_cfg.std == 2e-5
        assert head.loss.label_smooth_val == 0.1
        loader = cfg.train_dataloader
        assert (loader.batch_size, loader.drop_last) == (batch, True)
        cropped, flip, augment, erase = loader.dataset.pipeline[:4]
        crop = cropped.crop
        assert (crop.scale, crop.crop_ratio_range) == (size, (0.08, 1.0))
        assert (cropped.type, crop.interpolation) == ('mmfd.LoadCrop',
                                                      'bicubic')
        assert flip.prob == 0.5
        assert (augment.num_policies, augment.magnitude_level) == (2, 9)
        assert (augment.policies, augment.magnitude_std) == ('timm_increasing',
                                                             0.5)
        assert (erase.erase_prob, erase.mode) == (0.25, 'rand')
        assert (erase.min_area_ratio, erase.max_area_ratio) == (0.02, 1 / 3)
        assert_evaluates_centre_crops(cfg, size, 'bicubic')

    check_all(check, FINE_TUNING)


def test_swin_has_the_papers_numbers():
    fd, tune = (
        load(f'configs/{name}.py')
        for name in ('fd/esvit_swinb_fd',
                     'classification/esvit_swinb_fd_in1k'))
    for cfg, epochs, drop_path, batch in ((fd, 300, .3, 128), (tune, 100, .4,
                                                               64)):
        backbone = cfg.model.backbone
        assert cfg.train_cfg.max_epochs == epochs
        assert cfg.train_dataloader.batch_size == batch
        assert (backbone.arch, backbone.img_size, backbone.window_size,
                backbone.drop_path_rate) == ('base', 224, 14, drop_path)
    assert fd.optim_wrapper.clip_grad.max_norm == 3.0
    assert tune.optim_wrapper.clip_grad.max_norm == 5.0
    assert tune.optim_wrapper.paramwise_cfg == dict(layer_decay=0.8)
    crop = fd.train_dataloader.dataset.pipeline[0].crop
    assert crop.crop_ratio_range == (.08, 1)
    assert tune.model.head.init_cfg.std == 0.02


def test_only_the_stages_of_beit_leave_out_mixup():

    def check(name):
        cfg = load(f'configs/classification/{name}.py')
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

    check_all(check, FINE_TUNING)


def test_imagenet_22k_has_all_its_classes_and_holds_few_images_out():
    cfg = load('configs/classification/clip_vitl_fd_in22k.py')
    assert cfg.model.head.num_classes == 21841
    assert cfg.model.data_preprocessor.num_classes == 21841
    for loader in cfg.train_dataloader, cfg.val_dataloader:
        assert loader.dataset.data_root == 'data/imagenet22k'
        assert loader.dataset.held_out == 0.001


def test_linear_probe_has_maes_numbers():

    def check(leaf):
        cfg = load(leaf)
        model, optim = cfg.model, cfg.optim_wrapper
        assert cfg.train_cfg.max_epochs == 90
        assert optim.optimizer == dict(
            type='mmfd.LARS', lr=0.2, momentum=0.9, weight_decay=0.)
        assert 'clip_grad' not in optim and 'paramwise_cfg' not in optim
        curve = cfg.default_hooks.param_scheduler
        assert (curve.warmup_epochs, curve.warmup_lr, curve.min_lr) == (10, 0,
                                                                        0)
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
            feature = 'avg_featmap' if '_fd_' in leaf else 'cls_token'
            assert model.backbone.out_type == feature
        assert model.backbone.get('drop_path_rate', 0.) == 0.
        size = model.backbone.img_size
        pipeline = cfg.train_dataloader.dataset.pipeline
        assert [t.type for t in pipeline] == [
            'mmfd.LoadCrop', 'mmpretrain.RandomFlip', 'mmpretrain.PackInputs'
        ]
        crop = pipeline[0].crop
        assert (crop.type, crop.scale) == ('mmfd.ClampedCrop', size)
        assert (crop.crop_ratio_range, crop.interpolation) == ((0.08, 1.0),
                                                               'bicubic')
        assert_evaluates_centre_crops(cfg, size, 'bicubic')

    check_all(
        check,
        [x for x in leaves('classification') if x.endswith('_linear.py')])


def test_clip_differs_from_dino_in_eps_activation_and_pre_norm():
    clip, dino = (
        load(f'configs/_base_/teachers/{x}_vitb16.py').teacher
        for x in ('clip', 'dino'))
    assert clip.backbone.pop('norm_cfg').eps == 1e-5
    assert dino.backbone.pop('norm_cfg').eps == 1e-6
    assert clip.backbone.pop('pre_norm') and clip.backbone.pop('layer_cfgs')
    assert clip.backbone == dino.backbone and clip.neck == dino.neck
    assert dino.normalize.mean == [123.675, 116.28, 103.53]
    assert dino.normalize.std == [58.395, 57.12, 57.375]
    assert dino.img_size == clip.img_size == 224


def test_before_has_the_recipe_of_after():
    """But for the teacher's own statistics and the layers it has besides."""

    def check(leaf):
        teacher, student = load(leaf), load(after(leaf))
        for key in ('train_cfg', 'train_dataloader', 'val_dataloader',
                    'test_dataloader', 'test_evaluator', 'param_scheduler',
                    'default_hooks'):
            assert teacher[key] == student[key], key
        groups = teacher.optim_wrapper.get('paramwise_cfg', {})
        stem = groups.pop('stem', ())  # where CLIP's first norm is trained
        assert stem == (('pre_norm', )
                        if 'clip' in leaf and 'linear' not in leaf else ())
        tables = groups.pop('no_decay', ())  # Swin V2 computes them
        assert ('relative_position_bias_table'
                in tables) == ('esvit_swinb_in1k' in leaf)
        assert teacher.optim_wrapper == student.optim_wrapper
        theirs, ours = teacher.model, student.model
        for key in set(ours) - {'backbone', 'data_preprocessor'}:
            assert theirs[key] == ours[key], key
        for key in 'mean', 'std':
            assert theirs.data_preprocessor[key] == teacher.teacher.normalize[
                key]
            assert ours.data_preprocessor[key] == student.statistics[key]
        assert theirs.backbone.get('drop_path_rate',
                                   0.) == ours.backbone.drop_path_rate

    check_all(check, BEFORE)


def test_segmentor_has_the_numbers_of_its_readme():

    def check(name):
        lr, weight_decay, decay, drop_path, crop = SEGMENTATION[name]
        cfg = load(f'configs/ade20k/{name}.py')
        optim = cfg.optim_wrapper
        assert optim.optimizer.type == 'AdamW'
        assert optim.optimizer.lr == lr
        assert optim.optimizer.weight_decay == weight_decay
        assert optim.paramwise_cfg.get('layer_decay') == decay
        assert cfg.model.backbone.drop_path_rate == drop_path
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == 160000
        size = (crop, crop)
        [cropped] = [
            t for t in cfg.train_dataloader.dataset.pipeline
            if t.type == 'RandomCrop'
        ]
        assert cropped.crop_size == cfg.model.data_preprocessor.size == size
        test = cfg.model.test_cfg
        if 'swinv2' in name:  # tested at another size than trained
            size = (896, 896)
            for side, windows in ((640, 'window_size'), (896,
                                                         'test_window_size')):
                windows = cfg.model.backbone[windows]
                assert windows == [side // 16] * 3 + [side // 32]
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

    check_all(check, SEGMENTATION)


def assert_is_htc_plus_plus(cfg):
    model, steps = cfg.model, cfg.train_dataloader.dataset.pipeline
    assert model.type == 'HybridTaskCascade'
    assert model.test_cfg.rcnn.nms.type == 'soft_nms'
    assert [part.type
            for part in model.neck] == ['mmfd.GlobalAttention', 'FPN']
    assert model.neck[0].channels == model.neck[1].in_channels[-1]
    assert [t.type for t in steps] == [
        'LoadImageFromFile', 'InstaBoost', 'LoadAnnotations', 'RandomResize',
        'RandomFlip', 'PackDetInputs'
    ]
    assert steps[3].scale == [(1536, 400), (1536, 1400)]
    backbone, side = model.backbone, 1536 // 4
    for windows in backbone.window_size, backbone.test_window_size:
        grids = [side // 2**stage for stage in range(4)]
        assert not any(g % w for g, w in zip(grids, windows))
    assert (backbone.window_size[0], backbone.test_window_size[0]) == (32, 48)
    known = 14 if 'swinv2' in backbone.init_cfg.checkpoint and (
        backbone.init_cfg.get('prefix')) else 12  # after FD, or before
    assert backbone.pretrained_window_sizes == [known] * 3 + [known // 2]


def test_detector_of_objects365_is_that_of_coco_without_masks():

    def check(leaf):
        coco = load(
            leaf.replace('objects365', 'coco', 1).replace('objects365', 'htc'))
        cfg = load(leaf)
        ours, theirs = ({
            name: p.shape
            for name, p in on_meta_device(c).named_parameters()
        } for c in (cfg, coco))
        other = {k for k in ours if ours[k] != theirs[k]}
        assert other == {
            f'roi_head.bbox_head.{stage}.fc_cls.{name}'
            for stage in range(3)
            for name in ('weight', 'bias')
        }
        assert {ours[name][0] for name in other} == {366}
        assert {k.split('.')[1]
                for k in theirs if k not in ours} == {'mask_head'}
        assert cfg.train_dataloader.dataset.type == 'Objects365V2Dataset'
        assert cfg.test_evaluator.metric == 'bbox'
        assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 12

    check_all(check, leaves('objects365'))


def test_detector_has_the_numbers_of_its_readme():

    def check(leaf):
        cfg = load(leaf)
        epochs = 72 if 'htc' in leaf else 36
        assert cfg.train_cfg.max_epochs == epochs
        steps = cfg.param_scheduler[-1]
        assert steps.end == epochs
        assert steps.milestones == ([63, 69] if epochs == 72 else [27, 33])
        assert 'mmfd.hosts.mmcv_ops' in cfg.custom_imports.imports
        kinds = [t.type for t in cfg.train_dataloader.dataset.pipeline]
        assert ('RandomCrop' in kinds) == ('_vit' in leaf)
        if 'htc' in leaf:
            assert_is_htc_plus_plus(cfg)
        backbone, optim = cfg.model.backbone, cfg.optim_wrapper
        assert optim.optimizer.lr == 1e-4
        decay = {'_vitb': 0.7, '_vitl': 0.8, 'swinv2': 0.9}
        assert optim.get('paramwise_cfg', {}).get('layer_decay') == next(
            (value for name, value in decay.items() if name in leaf), None)
        if '_fd_' in leaf and 'clip' in leaf:
            side = backbone.img_size // backbone.patch_size
            assert backbone.window_size == side  # so its table is kept
            depth = 12 if backbone.arch == 'base' else 24
            assert backbone.global_blocks == [
                *range(depth // 4 - 1, depth, depth // 4)
            ]
        scale = 3.5 if 'vitl' in leaf else 4
        assert cfg.model.rpn_head.anchor_generator.strides == [
            scale * 2**i for i in range(5)
        ]

    check_all(check, leaves('coco'))


def test_readme_turns_36_epochs_of_a_detector_into_12():
    [options] = [
        shlex.split(line)
        for line in Path('configs/coco/README.md').read_text().splitlines()
        if line.startswith('    --cfg-options')
    ]
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def check(leaf):
        cfg = load(leaf)
        override(cfg, parser.parse_args([leaf, *options]).cfg_options)
        assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 12
        assert cfg.param_scheduler[1].milestones == [8, 11]

    check_all(check, [x for x in leaves('coco') if x.endswith('_3x.py')])


def test_linear_layer_is_all_that_a_frozen_segmentor_trains():

    def check(leaf):
        model = on_meta_device(load(leaf))
        assert {
            name
            for name, param in model.named_parameters() if param.requires_grad
        } == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}

    check_all(check, [x for x in leaves('ade20k') if 'linear' in x])
