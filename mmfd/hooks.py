"""What happens around the step."""
import time

from mmengine.dist import get_world_size
from mmengine.hooks import Hook

from mmfd.registry import HOOKS


@HOOKS.register_module()
class Throughput(Hook):
    """Log `img_per_s`, images per second of all processes together.

    Averaged since the line before, data loading included. Waits for nothing
    on the device.
    """

    def __init__(self, interval=10):
        self.interval = interval

    def before_train_epoch(self, runner):
        self.since, self.iterations = time.perf_counter(), 0

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        self.iterations += 1
        if self.iterations % self.interval:
            return
        batch = runner.train_dataloader.batch_sampler.batch_size
        now = time.perf_counter()
        images = self.iterations * batch * get_world_size()
        runner.message_hub.update_scalar('train/img_per_s',
                                         images / (now - self.since))
        self.since, self.iterations = now, 0
