"""What mmfd relies on in OpenMMLab, and what it says where it has gone."""
from threading import Thread
from types import SimpleNamespace

import pytest
import timm
import torch
from helpers.models import swin_student
from mmcv.cnn import bricks
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import CheckpointLoader, Runner
from mmpretrain.models import BEiTViT, SwinTransformerV2
from mmpretrain.models.utils import WindowMSA

from mmfd.errors import Refused
from mmfd.hosts import openmmlab
from mmfd.hosts.lookup import check_methods, find
from mmfd.networks.swin import StudentSwin
from mmfd.training.checkpoint_hook import ResumableCheckpointHook

LACKS = r'mmengine 0\.\d+\.\d+\w* has no {}: pip install .*mmengine'


@pytest.fixture
def wrapper():
    layer = torch.nn.Linear(2, 2)
    return OptimWrapper(
        torch.optim.SGD(layer.parameters(), 0.1), accumulative_counts=3)


def test_accumulation_relies_on_accumulative_counts_of_optim_wrapper(wrapper):
    assert openmmlab.accumulative_counts(wrapper) == 3
    del wrapper._accumulative_counts
    with pytest.raises(
            Refused, match=LACKS.format('OptimWrapper._accumulative_counts')):
        openmmlab.accumulative_counts(wrapper)


def test_files_of_a_checkpoint_hook_rely_on_its_attributes(tmp_path):
    hook = CheckpointHook(1, max_keep_ckpts=1, save_best='acc', rule='greater')
    runner = SimpleNamespace(
        work_dir=str(tmp_path),
        timestamp='now',
        logger=SimpleNamespace(info=print),
        message_hub=SimpleNamespace(runtime_info={}))
    hook.before_train(runner)
    assert openmmlab.remembered_files(
        hook).keys() == {*openmmlab.FILES} - {'best_ckpt_path_dict'}


LAZY = '''
from mmengine.config import read_base
from no_such_library import Model

model = dict(type=Model, size=3)
'''


def test_sections_of_a_lazy_config_rely_on_its_cfg_dict(tmp_path):
    (tmp_path / 'lazy.py').write_text(LAZY)
    cfg = Config.fromfile(tmp_path / 'lazy.py')
    assert dict(size=3).items() <= dict.items(cfg.model)
    assert openmmlab.sections(cfg)[-1] is cfg.model  # nothing is imported
    plain = SimpleNamespace(values=lambda: (1, 2))
    assert openmmlab.sections(plain) == [1, 2]


@pytest.mark.parametrize('registry, config', [
    (MODELS, dict(type='mmpretrain.NoSuchType')),
    (HOOKS, dict(type='NoSuchType')),
])
def test_unknown_types_rely_on_the_text_of_the_registrys_error(
        registry, config):
    with pytest.raises(KeyError) as raised:
        registry.build(config)
    name, kind = openmmlab.unknown_type(raised.value)
    assert (name, kind) == (config['type'], registry.name)
    assert openmmlab.unknown_type(KeyError('embed_dims')) is None


def test_base_files_of_mmseg_rely_on_mmengines_table_of_distributions(
        monkeypatch, take_away):
    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmsegmentation')
    openmmlab.let_configs_name('mmseg')
    assert MODULE2PACKAGE['mmseg'] == 'mmseg'
    take_away('mmengine.config.utils:MODULE2PACKAGE')
    openmmlab.let_configs_name('mmseg')  # the host may find them


def test_label_maps_rely_on_transforms_called_load_annotations():
    from mmseg.datasets.transforms import LoadAnnotations
    assert openmmlab.reads_label_maps(LoadAnnotations())
    assert not openmmlab.reads_label_maps(LoadImageFromFile())


def test_checkpoints_rely_on_mmengine_taking_a_loader(tmp_path, monkeypatch,
                                                      take_away):
    monkeypatch.setattr(CheckpointLoader, '_schemes',
                        dict(CheckpointLoader._schemes))
    openmmlab.set_checkpoint_loader(lambda path, map_location: (path, 'ours'))
    path = str(tmp_path / 'epoch_1.pth')
    assert CheckpointLoader.load_checkpoint(path) == (path, 'ours')
    take_away('mmengine.runner.checkpoint:CheckpointLoader')
    with pytest.raises(
            Refused, match=LACKS.format('CheckpointLoader.register_scheme')):
        openmmlab.set_checkpoint_loader(print)


class Saver(CheckpointHook):
    """Notes what the host's hook asks it to save."""

    def _save_checkpoint_with_step(self, runner, step, meta):
        self.saved = step, meta


def test_checkpoints_rely_on_the_host_saving_all_through_one_method():
    hook = Saver(1)
    runner = SimpleNamespace(epoch=4, iter=50, logger=SimpleNamespace())
    runner.logger.info = print
    hook.after_train_epoch(runner)
    assert hook.saved == (5, dict(epoch=5, iter=50))


class Counter(Hook):

    def _after_iter(self, runner, batch_idx, data_batch, outputs, mode):
        self.iteration = mode

    def _after_epoch(self, runner, mode):
        self.epoch = mode


@pytest.mark.parametrize('mode', ['train', 'val', 'test'])
def test_hooks_of_all_loops_rely_on_after_iter_and_after_epoch(mode):
    hook = Counter()
    getattr(hook, f'after_{mode}_iter')(None, 0)
    getattr(hook, f'after_{mode}_epoch')(None)
    assert hook.iteration == hook.epoch == mode


@pytest.mark.parametrize('cls, names', [
    (BEiTViT, ('_prepare_relative_position_bias_table', '_freeze_stages')),
    (SwinTransformerV2, ('_delete_reinit_params', )),
])
def test_students_rely_on_private_methods_of_mmpretrains_backbones(cls, names):
    check_methods(cls, *names)


def test_a_swin_students_tables_rely_on_a_load_hook_of_the_host(monkeypatch):
    called = []
    monkeypatch.setattr(StudentSwin, '_delete_reinit_params',
                        lambda self, *_: called.append(self))
    network = MODELS.build(swin_student())
    network.load_state_dict(network.state_dict())
    assert called == [network]


def test_windows_and_drop_path_rely_on_the_names_of_their_classes():
    assert openmmlab.is_window_attention(WindowMSA(8, (2, 2), 2))
    assert openmmlab.is_drop_path(bricks.DropPath())
    assert openmmlab.is_drop_path(timm.layers.DropPath())
    assert not openmmlab.is_drop_path(torch.nn.Dropout())


def test_sharded_runners_rely_on_the_host_drawing_weights_in_one_method():
    check_methods(Runner, '_init_model_weights')


def test_a_method_that_the_host_no_longer_calls_is_refused(monkeypatch):
    monkeypatch.delattr(CheckpointHook, '_save_checkpoint_with_step')
    with pytest.raises(
            Refused,
            match=LACKS.format('CheckpointHook._save_checkpoint_with_step')):
        ResumableCheckpointHook()


def test_what_no_library_has_is_none_and_is_asked_for_once(monkeypatch):
    assert find('torch:no_such_name') is find('no_such_library:name') is None
    assert find('torch:Tensor.add') is torch.Tensor.add
    monkeypatch.delattr(torch, 'vander')
    assert find('torch:vander') is None
    monkeypatch.undo()
    assert find('torch:vander') is None  # remembered
    find.cache_clear()


def test_a_logger_that_cannot_be_made_keeps_no_lock(tmp_path):
    """As on a full disk: a lock that is kept stops all other threads."""
    openmmlab.give_back_locks()
    with pytest.raises(OSError):
        MMLogger.get_instance('lost', log_file=str(tmp_path / 'no/such.log'))
    other = Thread(target=MMLogger.get_instance, args=['made'], daemon=True)
    other.start()
    other.join(60)
    assert MMLogger.check_instance_created('made')
