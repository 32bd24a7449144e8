"""Every setting has a taker: others are refused by name, none falsely."""
import os
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from helpers.commands import ROOT
from helpers.configs import leaves
from mmengine.config import Config

from mmfd.errors import Refused
from mmfd.launch.checks import config_checks, schedule_checks
from mmfd.launch.config_options import load_config

FD = f'{ROOT}/configs/fd/clip_vitb_fd.py'
FINETUNE = f'{ROOT}/configs/classification/clip_vitb_fd_in1k.py'


def stock(library, name):
    """Path of a config that came with a library."""
    folder = os.path.dirname(find_spec(library).origin)
    return os.path.join(folder, '.mim', 'configs', name)


RESNET = stock('mmpretrain', 'resnet/resnet50_8xb32_in1k.py')
SWIN = stock('mmpretrain', 'swin_transformer/swin-base_16xb64_in1k.py')
MASK_RCNN = stock('mmdet', 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py')
UPERNET = stock(
    'mmseg', 'swin/swin-base-patch4-window7-in1k-pre_upernet_8xb2-160k_'
    'ade20k-512x512.py')
STUDENT = '''model = dict(backbone=dict(
    _delete_=True, type='mmfd.StudentViT', arch='base', img_size=224,
    patch_size=16, out_type='{out}'))
'''
IN_RESNET = STUDENT.format(out='avg_featmap')
HABITS = {  # what people write: (bases, text, the message)
    'schedule of the host': (
        [FD], "param_scheduler = [dict(type='CosineAnnealingLR', T_max=300)]",
        'two learning-rate schedules: param_scheduler and default_hooks.param_'
        'scheduler'),
    'our schedule beside that of the host': (
        [RESNET], IN_RESNET + "custom_hooks = [dict(type='mmfd."
        "WarmupCosineHook', warmup_epochs=1, warmup_lr=0., min_lr=0.)]",
        'two learning-rate schedules: param_scheduler and custom_hooks.0'),
    'schedule without its hook': (
        [RESNET], IN_RESNET + 'default_hooks = dict(param_scheduler=None)',
        'nothing reads param_scheduler'),
    'average of a class that is not there': (
        [RESNET], IN_RESNET + "custom_hooks = [dict(type='EMAHook', "
        "ema_type='ExpMomentumEMAs', gamma=2000)]",
        "custom_hooks.0.ema_type: nothing is called type='ExpMomentumEMAs'"),
    'automatic scaling': (
        [FD], 'auto_scale_lr = dict(enable=True, base_batch_size=512)',
        'scaled twice: auto_scale_lr and default_hooks.param_scheduler'),
    'warm-up beyond the run': (
        [FD], 'train_cfg = dict(max_epochs=2)',
        'warmup_epochs=10 has no effect in a run of 2 epochs'),
    "warm-up of the host's beyond the run": (
        [SWIN], IN_RESNET + 'train_cfg = dict(max_epochs=5)',
        'param_scheduler.0.end=20 has no effect in a run of 5 epochs'),
    'size at the top': (
        [FD], 'img_size = 112',
        'img_size=112 in .*has no effect: .*imagenet_fd.py has built settings '
        'with img_size=224 already. Set .*model.backbone.img_size .*'
        r'train_dataloader.dataset.pipeline.0.crop.scale'),
    'folder at the top': (
        [MASK_RCNN], "data_root = 'mine/'",
        "data_root='mine/' in .*has no effect: .*Set .*train_dataloader."
        'dataset.data_root'),
    'crop at the top': (
        [UPERNET], 'crop_size = (256, 256)',
        r'crop_size=\(256, 256\) in .*Set .*model.data_preprocessor.size'),
    'names of classes as in version 2': (
        [UPERNET],
        "train_dataloader = dict(dataset=dict(metainfo=dict(CLASSES=['a'])))",
        'train_dataloader.dataset.metainfo.CLASSES=.*did you mean .classes'),
    'teacher at the top': (
        [FD], "teacher = dict(checkpoint='mine.pth')",
        'teacher=.*Set model.teacher in its place'),
    'misspelt section': (
        [FD], 'optim_wraper = dict(accumulative_counts=2)',
        "optim_wraper in .*nothing reads it: did you mean 'optim_wrapper'"),
    'section of OpenMMLab 1': (
        [FD], 'data = dict(samples_per_gpu=64)',
        'data in .*since OpenMMLab 2: set train_dataloader'),
    'learning rate of OpenMMLab 1': (
        [RESNET], IN_RESNET + "lr_config = dict(policy='step', step=[30])",
        'lr_config in .*: set param_scheduler'),
    'iterations beside epochs': (
        [FD], 'train_cfg = dict(max_iters=1000)',
        r'train_cfg.max_iters=1000 \(mmfd.ResumableLoop has no'),
    'by_epoch beside a type': (
        [FD], 'train_cfg = dict(by_epoch=True)', 'train_cfg.by_epoch'),
    'key that a hook swallows': (
        [FD], 'default_hooks = dict(checkpoint=dict(max_keep_ckpt=1))',
        "checkpoint.max_keep_ckpt=1 .*did you mean 'max_keep_ckpts'"),
    'statistics of a preprocessor that has none': (
        [FD], 'model = dict(data_preprocessor=dict(mean=[0.5] * 3))',
        r'model.data_preprocessor.mean=\[0.5, 0.5, 0.5\]'),
    'statistics at the top': (
        [FINETUNE], 'data_preprocessor = dict(mean=[127.5] * 3)',
        r'nothing reads data_preprocessor.mean=\[127.5, 127.5, 127.5\]'),
    'training settings of another model': (
        [FD], 'model = dict(train_cfg=dict(augments=[]))', 'model.train_cfg'),
    'misspelt group of parameters': (
        [RESNET], IN_RESNET + 'optim_wrapper = dict(paramwise_cfg=dict('
        'norm_decay_mul=0.))', "norm_decay_mul=.*did you mean 'norm_decay_mult"
    ),
    'misspelt clipping': (
        [FD], 'optim_wrapper = dict(clip_grad=dict(maxnorm=1.))',
        "clip_grad.maxnorm=1.0 .*did you mean 'max_norm'"),
    'environment': (
        [FD], 'env_cfg = dict(cudnn_deterministic=True)',
        'env_cfg.cudnn_deterministic=True'),
    'log': ([FD], 'log_processor = dict(windows_size=9)',
            "log_processor.windows_size=9 .*did you mean 'window_size'"),
    'drawing': ([FD], 'visualizer = dict(vis_backend=[])',
                "visualizer.vis_backend=.*did you mean 'vis_backends'"),
    'loader': ([FD], 'train_dataloader = dict(samples_per_gpu=9)',
               r'train_dataloader.samples_per_gpu=9 \(DataLoader has no'),
    'validation after the end': (
        [FD], 'train_cfg = dict(val_begin=301)',
        'train_cfg.val_begin=301 has no effect in a run of 300 epochs'),
    'interval that changes after the end': (
        [FD], 'train_cfg = dict(dynamic_intervals=[(290, 1), (310, 2)])',
        r'dynamic_intervals=\(310, 2\) has no effect'),
    'average after the end': (
        [FD], "custom_hooks = [dict(type='EMAHook', begin_epoch=300)]",
        'custom_hooks.0.begin_epoch=300 has no effect'),
    'checkpoints after the end': (
        [FD], 'default_hooks = dict(checkpoint=dict(interval=400, '
        'save_last=False, save_best=None))',
        'default_hooks.checkpoint.interval=400 has no effect'),
    'hook twice': (
        [FD], "custom_hooks = [dict(type='LoggerHook', interval=5)]",
        'default_hooks.logger and custom_hooks.0 are both LoggerHook'),
    'hook of ours twice': (
        [FD], "custom_hooks = [dict(type='mmfd.ThroughputHook')]",
        'default_hooks.throughput and custom_hooks.0 are both Throughput'),
    'first checkpoint after the end': (
        [FD], 'default_hooks = dict(checkpoint=dict(save_begin=400))',
        'default_hooks.checkpoint.save_begin=400 has no effect'),
    'word for a switch': (
        [FD], "default_hooks = dict(checkpoint=dict(save_last='no'))",
        "checkpoint.save_last='no': True or False is expected"),
    'word for a switch of the host': (
        [FD], "randomness = dict(deterministic='Off')",
        "randomness.deterministic='Off': True or False is expected"),
    'half an epoch': (
        [FD], 'default_hooks = dict(checkpoint=dict(interval=1.5))',
        'default_hooks.checkpoint.interval=1.5: a whole number is expected'),
    'number in the notation of floats': (
        [FD], 'train_dataloader = dict(batch_size=1e2)',
        'train_dataloader.batch_size=100.0: a whole number is expected'),
    'truth for a number': (
        [FD], 'optim_wrapper = dict(optimizer=dict(weight_decay=True))',
        'weight_decay=True: a number of 0 or more is expected'),
    'decay of the layers in per cent': (
        [FINETUNE],
        'optim_wrapper = dict(paramwise_cfg=dict(layer_decay=65))',
        'layer_decay=65: a number of 0 to 1 is expected'),
    'run without end': (
        [FD], 'train_cfg = dict(max_epochs=float("inf"))',
        'train_cfg.max_epochs=inf: a whole number is expected'),
    'key that only the class above has': (
        [FD], "model = dict(init_cfg=dict(checkpoint='a.pth'))",
        r"model.init_cfg=.*mmfd.FeatureDistillation has no 'init_cfg'\)"),
    'metric twice': (
        [FD], "val_evaluator = [dict(type='mmfd.HeldOutLoss')] * 2",
        'val_evaluator has HeldOutLoss twice'),
    'one beta': (
        [FD], 'optim_wrapper = dict(optimizer=dict(betas=[0.9]))',
        r'betas=\[0.9\]: a list of 2 numbers is expected'),
    'clipping to nothing': (
        [FD], 'optim_wrapper = dict(clip_grad=dict(max_norm=None))',
        'optim_wrapper.clip_grad.max_norm is None: a number is expected'),
    'clipping to zero': (
        [FD], 'optim_wrapper = dict(clip_grad=dict(max_norm=0))',
        'max_norm=0: a number above 0, or clip_grad=None, is expected'),
    'no checkpoints kept': (
        [FD], 'default_hooks = dict(checkpoint=dict(max_keep_ckpts=0))',
        'max_keep_ckpts=0: 1 or more, or -1 to keep all, is expected'),
    'seed of words': (
        [FD], "randomness = dict(seed='random')",
        "randomness.seed='random': a whole number is expected"),
    'seed beyond those of NumPy': (
        [FD], 'randomness = dict(seed=1 << 32)',
        'seed=4294967296: a number of 0 to 4294967295 is expected'),
    'intervals out of order': (
        [FD], 'train_cfg = dict(dynamic_intervals=[(90, 1), (50, 5)])',
        r'dynamic_intervals=\(50, 5\): .* the first one first'),
    'average that never changes': (
        [FD], "custom_hooks = [dict(type='EMAHook', momentum=0.)]",
        'custom_hooks.0.momentum=0.0: the share of the new weights'),
    'interval without its epoch': (
        [FD], 'train_cfg = dict(dynamic_intervals=[90, 1])',
        'dynamic_intervals=90: pairs are expected'),
    'best by what is not measured': (
        [FD], "default_hooks = dict(checkpoint=dict(save_best='loss'))",
        "checkpoint.save_best='loss': the metrics of val_evaluator are called"
        ' .*knn/...'),
    'wait for what is not measured': (
        [FD], "custom_hooks = [dict(type='EarlyStoppingHook', monitor='acc')]",
        "custom_hooks.0.monitor='acc': the metrics of val_evaluator are called"
        ' .*knn/...'),
    'schedule by what is not measured': (
        [FD], "param_scheduler = [dict(type='ReduceOnPlateauLR')]\n"
        'default_hooks = dict(param_scheduler=dict(_delete_=True, '
        "type='ParamSchedulerHook'))",
        "param_scheduler.0.monitor='loss': the metrics of val_evaluator"),
    'swallowed by an average': (
        [FD], "custom_hooks = [dict(type='EMAHook', momentun=1e-4)]",
        "custom_hooks.0.momentun=0.0001"),
}


def check(folder, bases, text='', options=(), iterations=1000):
    """Check a config with these bases and this text, as training would."""
    path = folder / 'mine.py'
    path.write_text(f'_base_ = {[*map(str, bases)]}\n{text}\n')
    cfg = load_config(
        Namespace(
            config=str(path),
            work_dir=None,
            launcher='none',
            local_rank=0,
            data_root=[],
            cfg_options=dict(options)))
    config_checks.check_settings(cfg, train=True)
    schedule_checks.check_within(cfg, iterations)


@pytest.mark.parametrize('habit', HABITS)
def test_setting_that_is_unread_or_doubled_is_refused_by_name(tmp_path, habit):
    bases, text, message = HABITS[habit]
    with pytest.raises(Refused, match=message):
        check(tmp_path, bases, text)


FINE = {  # what nothing contradicts
    'variables of the file': ([FD], 'num_classes = 11\ncrop_size = (9, 9)'),
    'variable that the file reads': (
        [FD], "data_root = 'mine'\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root))'),
    'checkpoints at the end': (
        [FD], 'default_hooks = dict(checkpoint=dict(interval=400))'),
    'validation at the end': ([FD], 'train_cfg = dict(val_interval=400)'),
    'metrics that nobody knows yet': (
        [FD], "val_evaluator = [dict(type='Mine')] * 2"),
    'metric at two prefixes': (
        [FD], "val_evaluator = [dict(type='mmfd.HeldOutLoss', prefix=p) "
        "for p in ('a', 'b')]"),
    'scaling that is off': (
        [FD], 'auto_scale_lr = dict(base_batch_size=512)'),
    "the host's schedule in place of ours": (
        [FD], "param_scheduler = [dict(type='CosineAnnealingLR', T_max=300)]\n"
        'default_hooks = dict(param_scheduler=dict('
        "_delete_=True, type='ParamSchedulerHook'))"),
    'our student in a stock file': ([SWIN], IN_RESNET),
    'scaling of a stock file': (
        [RESNET], IN_RESNET + 'auto_scale_lr = dict(enable=True)'),
    'hook of the host': (
        [FD], "custom_hooks = [dict(type='EMAHook', momentum=1e-4, "
        "priority='ABOVE_NORMAL')]"),
}


@pytest.mark.parametrize('case', FINE)
def test_setting_that_nothing_contradicts_is_taken(tmp_path, case):
    check(tmp_path, *FINE[case])


def test_option_for_a_variable_names_the_settings_built_from_it(tmp_path):
    with pytest.raises(Refused) as refusal:
        check(tmp_path, [FD], options={'img_size': 112})
    for place in ('model.backbone.img_size', 'model.teacher.img_size',
                  'train_dataloader.dataset.pipeline.0.crop.scale',
                  'val_dataloader.dataset.pipeline.2.crop_size'):
        assert f"'{place}'" in str(refusal.value)


@pytest.mark.parametrize('leaf', leaves('fd', 'classification'))
def test_our_own_configs_are_taken(tmp_path, leaf):
    check(tmp_path, [Path(leaf).resolve()])


STUDENTS = dict(  # library -> what stands in for its backbones
    mmpretrain=IN_RESNET,
    mmseg=STUDENT.format(out='featmap'),
    mmdet=STUDENT.format(out='featmap'))


@pytest.mark.full
@pytest.mark.parametrize('library', STUDENTS)
def test_our_student_is_taken_in_stock_files(tmp_path, library):
    """In every sixth file that has a backbone and trains by itself."""
    folder = Path(stock(library, ''))
    taken = []
    for path in sorted(folder.glob('*/*.py'))[::6]:
        if path.parent.name == '_base_':
            continue
        try:
            cfg = Config.fromfile(path)
        except FileNotFoundError:  # a base that the library lacks
            continue
        trains = all(
            cfg.get(key) for key in ('model', 'train_dataloader',
                                     'optim_wrapper', 'train_cfg'))
        if trains and cfg.model.get('backbone'):
            check(tmp_path, [path], STUDENTS[library], iterations=None)
            taken.append(path)
    assert len(taken) > 50


def test_custom_keys_without_a_parameter_are_refused_by_name():
    cfg = Config(
        dict(
            optim_wrapper=dict(
                paramwise_cfg=dict(
                    custom_keys={
                        'weight': dict(lr_mult=0.1),
                        'pos_embed': dict(decay_mult=0.),
                        'backbon': dict(lr_mult=0.1)
                    }))))
    with pytest.raises(Refused, match='has in its name backbon$'):
        schedule_checks.check_custom_keys(cfg, torch.nn.Linear(1, 1))
    del cfg.optim_wrapper.paramwise_cfg.custom_keys['backbon']
    schedule_checks.check_custom_keys(cfg, torch.nn.Linear(1, 1))
