"""What happens around the step."""
import json
import os
from collections import Counter
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from test_tools import FD
from torch.utils._python_dispatch import TorchDispatchMode

from mmfd.weights.mmengine_reader import load_for_mmengine


class ReadBack(TorchDispatchMode):
    """Counts the operations of an iteration; one reads a scalar back."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


class Witness(Hook):
    """The loss and the number of reads of each iteration."""
    priority = 'LOWEST'

    def __init__(self):
        self.losses, self.reads = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.mode = ReadBack()
        self.mode.__enter__()

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        self.mode.__exit__(None, None, None)
        self.reads.append(self.mode.found['aten._local_scalar_dense.default'])
        self.losses.append(outputs['loss'].item())


def trained(folder, shapes_root, name, **hooks):
    """15 iterations without drop path, whose masks are drawn on the CPU."""
    text = FD.format(repo=os.getcwd(), folder=folder, shapes=shapes_root)
    (folder / 'fd.py').write_text(text)
    cfg = Config.fromfile(folder / 'fd.py')
    cfg.work_dir = str(folder / name)
    cfg.train_cfg.max_epochs = 1  # of 15 iterations
    cfg.default_hooks.update(hooks)
    cfg.default_hooks.logger.interval = 4
    cfg.model.teacher.checkpoint = 'random'
    cfg.model.backbone.drop_path_rate = 0.
    witness = Witness()
    runner = Runner.from_cfg(cfg)
    runner.register_hook(witness)
    runner.train()
    lines = Path(runner.log_dir, 'vis_data/scalars.json').read_text()
    return witness, [
        line for line in map(json.loads, lines.splitlines()) if 'lr' in line
    ]


def test_no_iteration_waits_for_its_loss_and_the_log_is_the_hosts(
        tmp_path, shapes_root):
    ours, lines = trained(tmp_path, shapes_root, 'ours')
    host, expected = trained(
        tmp_path,
        shapes_root,
        'host',
        runtime_info=dict(type='RuntimeInfoHook'))
    assert ours.reads == [0] * 15 and min(host.reads[1:]) == 2
    assert ours.losses == host.losses
    assert [line['loss']
            for line in lines] == [line['loss'] for line in expected]
    assert len(lines) == 3 and all(line['grad_norm'] > 0 for line in lines)
    saved = load_for_mmengine(tmp_path / 'ours' / 'epoch_1.pth')
    history = saved['message_hub']['log_scalars']
    assert history['train/loss'].data[0].tolist() == ours.losses
    assert len(history['train/grad_norm'].data[0]) == 15
