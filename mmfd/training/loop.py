"""A run that goes on where it was ended, as if it never had been."""
import logging
import zipfile
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop
from torch.utils import serialization

from mmfd.data.sampler import ResumableSampler, seed_all
from mmfd.errors import Refused
from mmfd.registry import LOOPS
from mmfd.weights import checkpoints

# Names of checkpoints to go on from
WRITTEN = 'epoch_*.pth', 'iter_*.pth', 'interim_*.pth'
REMEMBERED = 10_000  # iterations of every curve, for averages in the log


class StopTraining(Exception):
    """Raised by a hook to end training at once: nothing more is saved."""


@LOOPS.register_module()
class ResumableLoop(EpochBasedTrainLoop):
    """The host's loop, able to begin amid an epoch.

    What is drawn in an iteration, such as drop path and mixup, depends on
    seed, process and iteration alone, so there is no random state to restore.
    An evaluation that the run was ended in is done again.
    """

    def run(self):
        self.runner.call_hook('before_train')
        sampler = self.dataloader.sampler
        if isinstance(sampler, ResumableSampler):
            sampler.seed = self._seed()
        elif self._iter % len(self.dataloader):
            raise Refused(
                f'{type(sampler).__name__} cannot go on amid an epoch: set '
                "train_dataloader.sampler.type='mmfd.ResumableSampler'")
        self._evaluate()  # if that is where the run was ended
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._evaluate()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self):
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        if done:
            batch = self.dataloader.batch_sampler.batch_size
            self.dataloader.sampler.start = done * batch
        for idx, data_batch in enumerate(self.dataloader, done):
            self.run_iter(idx, data_batch)
        self.dataloader.sampler.start = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        for curve in self.runner.message_hub.log_scalars.values():
            curve.max_length = REMEMBERED  # the host copies it every iteration

    def run_iter(self, idx, data_batch):
        seed_all(self._seed(), get_rank(), self._iter)
        super().run_iter(idx, data_batch)

    def evaluates(self, epoch):
        """Whether held-out images are looked at after so many epochs."""
        return (self.runner.val_loop is not None and epoch >= self.val_begin
                and
                (epoch % self.val_interval == 0 or epoch == self._max_epochs))

    def _evaluate(self):
        hub, amid = self.runner.message_hub, self._iter % len(self.dataloader)
        done = hub.runtime_info.get('evaluated', 0)
        if self.evaluates(self._epoch) and not amid and done < self._epoch:
            hub.update_info('evaluated', self._epoch)  # in what it saves
            self.runner.val_loop.run()

    def _seed(self):
        """The run's, to which the host adds the process, if so asked."""
        own = self.runner._randomness_cfg.get('diff_rank_seed', False)
        return self.runner.seed - own * get_rank()


def position(iteration, epoch, length, before, accumulated):
    """Where a checkpoint lets a run go on: (epoch, iteration).

    Args:
        iteration, epoch (int): done when it was written.
        length, before (int): iterations in an epoch, now and then. Other
            images or other batches make another length: the run goes on at
            the same share of its epoch.
        accumulated (int): iterations in an update. Those of an update that
            was not made are done again.
    """
    amid = iteration - epoch * before
    if length != before:
        iteration = epoch * length + amid * length // before
    iteration -= iteration % accumulated
    return iteration // length, iteration


def last_whole(work_dir):
    """The last checkpoint of a run that can be read, or None.

    Told by the time of the file, since a folder may hold those of a run
    before, and by the iteration in it. It is read whole, and compared with
    the sums that PyTorch writes. Damaged ones are named in the log.
    """
    there = []
    for file in written(work_dir):
        try:
            there.append((file.stat().st_mtime_ns, _iteration(file), file))
        except ValueError as error:
            _complain(file, error)
    for *_, file in sorted(there, reverse=True):
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if not damaged:
            return str(file)
        _complain(file, f'{damaged} in it is not what was written')


def written(work_dir):
    """All checkpoints of a run, whole or not; the host notes the last."""
    folders, noted = {Path(work_dir)}, Path(work_dir, 'last_checkpoint')
    files = set()
    if noted.is_file():
        last = Path(noted.read_text().strip())
        files = {last} if last.is_file() else files
        folders.add(last.parent)  # default_hooks.checkpoint.out_dir
    return files.union(
        f for folder in folders for name in WRITTEN for f in folder.glob(name))


def _iteration(file):
    with serialization.config.patch('load.mmap', True):  # no weights yet
        meta = checkpoints.meta(file)
    if 'iter' not in meta:
        raise Refused(f'{file} does not say of which iteration it is')
    return meta['iter']


def _complain(file, reason):
    print_log(f'not going on from {file}, but from one before it: {reason}',
              'current', logging.WARNING)
