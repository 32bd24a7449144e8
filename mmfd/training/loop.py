"""A training loop that can start in the middle of an epoch."""
from bisect import bisect

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop

from mmfd.data.sampler import ResumableSampler, seed_all
from mmfd.errors import Refused
from mmfd.hosts import log, pytorch_errors
from mmfd.registry import LOOPS

MAX_HISTORY = 10_000  # iterations kept of every logged curve, for averages


class StopTraining(Exception):
    """Raised by a hook to end training at once: nothing more is saved."""


@LOOPS.register_module()
class ResumableLoop(EpochBasedTrainLoop):
    """The host's loop; a resumed run equals one that was never stopped.

    Random numbers of an iteration, such as those of drop path and mixup,
    depend only on the run's seed, the process and the iteration, so there is
    no random state to restore. An evaluation that was interrupted is
    repeated.

    With accumulated gradients an epoch is a whole number of updates, so no
    checkpoint is written within one: images that would fill only a part of an
    update are left out, as they are where processes take the place of
    accumulation. Where a batch sampler groups images by their shape, those
    that wait for others of their shape when a run ends, less than two batches,
    do not come back in that epoch.

    Raises:
        Refused: if an epoch has too few images for one update, or if a run
            resumes in the middle of an epoch and its sampler cannot start
            there.
    """

    def __init__(self, runner, dataloader, *args, **kwargs):
        super().__init__(runner, dataloader, *args, **kwargs)
        wrapper = runner.cfg.get('optim_wrapper') or {}
        accumulation = wrapper.get('accumulative_counts', 1)
        # of whatever groups images into batches: mmdet does it by shape
        self.sampler = sampler = self.dataloader.batch_sampler.sampler
        if isinstance(sampler, ResumableSampler) and accumulation > 1:
            batch = self.dataloader.batch_sampler.batch_size
            iterations = len(self.dataloader)
            sampler.update = batch * accumulation
            if not len(sampler):
                raise Refused(
                    f'an epoch has {iterations} iterations of {batch} images, '
                    f'and an update accumulates {accumulation}: lower '
                    'optim_wrapper.accumulative_counts or '
                    'train_dataloader.batch_size')

    @property
    def max_iters(self):
        """The host counts them before updates shorten the epochs."""
        return self.max_epochs * len(self.dataloader)

    def run(self):
        """Train, and call `after_loop` of the hooks, however that ends."""
        try:
            return self._train()
        finally:
            self.runner.call_hook('after_loop')

    def _train(self):
        self.runner.call_hook('before_train')
        if isinstance(self.sampler, ResumableSampler):
            self.sampler.seed = self._seed()
        elif self.iter % len(self.dataloader):
            raise Refused(
                f'{type(self.sampler).__name__} cannot start in the middle of '
                'an epoch: set '
                "train_dataloader.sampler.type='mmfd.ResumableSampler'")
        if self.epoch >= self.max_epochs:
            log.warn(f'this run has had its {self.max_epochs} epochs already, '
                     f'{self.epoch} of them, so nothing is trained: '
                     'train_cfg.max_epochs makes it longer')
        self._evaluate()  # if the run was stopped during an evaluation
        while self.epoch < self.max_epochs and not self.stop_training:
            self.run_epoch()
            step = bisect(self.dynamic_milestones, self.epoch + 1)
            self.val_interval = self.dynamic_intervals[step - 1]
            self._evaluate()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self):
        self.done = self.iter - self.epoch * len(self.dataloader)
        if self.done:
            batch_size = self.dataloader.batch_sampler.batch_size
            self.sampler.start = self.done * batch_size
        super().run_epoch()
        self.sampler.start = 0
        for curve in self.runner.message_hub.log_scalars.values():
            # the host copies the whole history in every iteration
            curve.max_length = MAX_HISTORY

    def run_iter(self, idx, data_batch):
        seed_all(self._seed(), get_rank(), self.iter)
        try:
            super().run_iter(self.done + idx, data_batch)
        except ValueError as error:
            if not pytorch_errors.is_of_one_value(error):
                raise
            raise Refused(
                'batch normalisation cannot learn from one image whose map is '
                '1 x 1: give more images, raise the batch size '
                '(train_dataloader.batch_size), or the size of the images'
            ) from error

    def evaluates_after(self, epoch):
        """Whether the run is evaluated after so many epochs."""
        return (self.runner.val_loop is not None and epoch >= self.val_begin
                and
                (epoch % self.val_interval == 0 or epoch == self.max_epochs))

    def _evaluate(self):
        """Evaluate once after each epoch that calls for it."""
        hub = self.runner.message_hub
        last = hub.runtime_info.get('evaluated', 0)  # epoch
        in_epoch = self.iter % len(self.dataloader)
        if (self.evaluates_after(self.epoch) and not in_epoch
                and last < self.epoch):
            # first, so that a checkpoint which the evaluation saves holds it
            hub.update_info('evaluated', self.epoch)
            self.runner.val_loop.run()

    def _seed(self):
        """The run's, to which the host adds the rank under diff_rank_seed."""
        randomness = self.runner.cfg.get('randomness') or {}
        added = randomness.get('diff_rank_seed', False)
        return self.runner.seed - added * get_rank()
