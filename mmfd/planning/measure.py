"""What a run takes on this machine, measured: its step, its loader, all of it.

Training runs as it will, and is halted again and again for steps on a batch
that is already there: whole and bare in turn, under the same conditions.
"""
import os
import resource
import statistics
import tempfile
import time
from contextlib import contextmanager
from itertools import chain, islice, repeat
from math import prod

import torch
from mmengine.hooks import Hook

from mmfd.errors import Refused
from mmfd.planning.plan import follow, side_of, target_of
from mmfd.planning.quantities import Quantity
from mmfd.training import cached_teacher
from mmfd.training.loop import StopTraining

SIDE = dict(cpu=2048, cuda=8192)  # of the matrices whose product is the limit


class Rounds(Hook):
    """Whole iterations, bare steps and their phases, round after round.

    Args:
        rounds (int): how many count; one more warms up.
        length (int): iterations of each kind in a round.
    """
    priority = 'LOWEST'  # after all others have done what belongs to a step

    def __init__(self, rounds, length):
        self.rounds, self.length = rounds, length
        self.whole, self.bare, self.waits = [], [], []  # seconds a step
        self.phases = {}  # name -> seconds a step
        self.start = None

    def before_train_epoch(self, runner):
        if self.start is None:
            self._begin()

    def _begin(self):
        _settle()
        self.start = self.done = time.perf_counter()
        self.count, self.waited = 0, 0.

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.waited += time.perf_counter() - self.done

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None):
        self.done, self.count = time.perf_counter(), self.count + 1
        if self.count < self.length:
            return
        _settle()
        self.whole.append((time.perf_counter() - self.start) / self.length)
        self.waits.append(self.waited / self.length)
        self._bare(runner, data_batch)
        self._phases(runner, data_batch)
        if len(self.whole) > self.rounds:
            raise StopTraining
        self._begin()

    def _bare(self, runner, batch):
        start = time.perf_counter()
        for _ in range(self.length):
            runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        _settle()
        self.bare.append((time.perf_counter() - start) / self.length)

    def _phases(self, runner, batch):
        model, optim, clock = runner.model, runner.optim_wrapper, self._clock
        for _ in range(self.length):
            with optim.optim_context(model):
                with clock('pixels'):
                    data = model.data_preprocessor(batch, True)
                if 'teacher' in dict(model.named_children()):
                    with clock('teacher'):
                        model.teacher(data['inputs'])
                with clock('forward'):  # teacher and student
                    loss, _ = model.parse_losses(model(**data, mode='loss'))
            with clock('backward'):
                optim.backward(loss)
            with clock('optimizer'):
                optim.step()
                optim.zero_grad()

    @contextmanager
    def _clock(self, name):
        _settle()
        start = time.perf_counter()
        yield
        _settle()
        self.phases.setdefault(name, []).append(time.perf_counter() - start)


def _settle():
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def gemm_rate(device, dtype):
    """Operations per second of the largest matrix products, as measured."""
    side = SIDE[device]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        a @ b
        _settle()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(seconds[2:])


def measured(cfg, prepare, rounds=5, length=5):
    """Train a little, in an empty work dir, and say what it took.

    Args:
        cfg (Config): as `launch.config_options.load_config` gives it.
        prepare (callable): `launch.runner.prepare`, which builds a Runner.
        rounds (int): how many times each figure is measured.
        length (int): iterations of a round.

    Returns:
        dict: title -> list of `quantities.Quantity`.

    Raises:
        Refused: as `prepare`; if fp32 products would be
            computed in less.
    """
    if cfg.model.get('teacher'):
        cfg.model.teacher = cached_teacher.without_cache(cfg.model.teacher)
    hook = Rounds(rounds, length)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir, cfg.visualizer = folder, None
        cfg.train_cfg.max_epochs = 10**6  # until it is enough
        for part in 'val_dataloader', 'val_evaluator', 'val_cfg':
            cfg[part] = None
        cfg.default_hooks.checkpoint = None
        runner = prepare(cfg, train=True)
        device, dtype = _arithmetic(runner)
        runner.register_hook(hook, priority='LOWEST')
        try:
            runner.train()
        except StopTraining:
            pass
        loading = [*_loading(runner.train_dataloader, rounds, length)]
    return _figures(cfg, hook, loading, device, dtype)


def _arithmetic(runner):
    """Device and dtype of the products, and no less than what is said."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    wrapper = runner.optim_wrapper
    dtype = wrapper.dtype if hasattr(wrapper, 'dtype') else torch.float32
    precision = torch.get_float32_matmul_precision()
    if dtype is torch.float32 and precision != 'highest':
        raise Refused(
            f'fp32 products would be computed in {precision!r} precision: '
            "torch.set_float32_matmul_precision('highest') before measuring")
    return device, dtype


def live_or_cached(plan, folder, store, throughput=None, tflops=None):
    """What a plan's teacher costs when it answers live, and from a cache.

    The disk is measured, and the live teacher's speed if it is not given, as
    this machine's GEMM rate, which no teacher reaches.

    Args:
        plan (Plan): of the run.
        folder (str): on the disk that the cache would be on.
        store (str): `bfloat16` or `int8`.
        throughput, tflops (float): as in `Plan.time`.
    """
    operations = {f.name: f.value for f in plan.operations()}
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if throughput:
        seconds = operations['teacher'] / sum(operations.values()) / throughput
        how, note = 'stated', "its share of a step's operations"
    else:
        rate = tflops * 1e12 if tflops else gemm_rate(
            device, plan.dtype or torch.float32)
        seconds = operations['teacher'] / rate
        how = 'stated' if tflops else 'measured'
        note = f'an image, at {rate / 1e12:.3g}e12 operations a second'
    pipeline = plan.cfg.train_dataloader.dataset.pipeline
    views = next((s.views for s in pipeline if 'views' in s), 1)
    shape = target_of(plan.cfg.model, side_of(pipeline))
    entry = prod(shape) * getattr(torch, store).itemsize
    speed = disk_speed(folder)
    figures = {f.name: f.value for f in plan.time()}
    seen, epochs = figures['images'], plan.cfg.train_cfg.max_epochs
    drawn = seen / epochs * views * (1 - (1 - 1 / views)**epochs)
    yield Quantity('teacher', 1000. * seconds, 'ms', how, note)
    yield Quantity('disk', speed, 'B', 'measured',
                   f'a second, read in {folder}')
    yield Quantity('live', seconds * seen, 's', how, f'{seen:,} targets')
    yield Quantity('cached', seconds * drawn + (seen - drawn) * entry / speed,
                   's', how,
                   f'{round(drawn):,} computed, {round(seen - drawn):,} read')
    yield Quantity(
        'size', drawn * entry, 'B', 'counted',
        f'{views} views of an image, {shape[0]} x {shape[1]} {store}')


def cheaper(figures):
    """A sentence."""
    live, cached, size_ = (
        next(f.value for f in figures if f.name == name)
        for name in ('live', 'cached', 'size'))
    better = 'cached' if cached < live else 'live'
    return (f'The teacher is cheaper {better}: {live / 3600:.3g} hours live, '
            f'{cached / 3600:.3g} hours and {size_ / 1e9:.3g} GB cached, on '
            'all GPUs together.')


def disk_speed(folder, count=2**27):
    """Bytes a second, read from the disk and not from memory.

    Raises:
        Refused: if nothing can be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(count))
            file.flush()
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, count, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            start = time.perf_counter()
            while file.read(2**18):
                pass
            return count / (time.perf_counter() - start)
    except OSError as error:
        raise Refused(f'the disk of {folder} cannot be measured: '
                      f'{error.strerror}: name a folder that is there and '
                      'takes 128 MiB') from error


def _loading(loader, rounds, length):
    """Seconds of a batch, of rounds of batches and nothing else."""
    batches = chain.from_iterable(repeat(loader))
    ahead = loader.num_workers * (loader.prefetch_factor or 0)
    for _ in islice(batches, ahead + length):  # what has waited already
        pass
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in islice(batches, length):
            pass
        yield (time.perf_counter() - start) / length


def _figures(cfg, hook, loading, device, dtype):
    batch = cfg.train_dataloader.batch_size
    side = side_of(cfg.train_dataloader.dataset.pipeline)
    work, rate = follow(cfg.model, 2, side, 'cpu'), gemm_rate(device, dtype)
    flops = (work.teacher + work.forward + work.backward) / 2
    bare, whole, waits = hook.bare[1:], hook.whole[1:], hook.waits[1:]
    step = batch / statistics.median(bare)
    above = [w / b - 1 for w, b in zip(whole, bare)]
    return {
        'images per second': [
            _speed('step', batch, bare),
            _speed('loader', batch, loading),
            _speed('whole', batch, whole),
            _share('overhead', above, 'whole program over its step'),
            _share('data wait', [a / b for a, b in zip(waits, whole)],
                   'of the whole program'),
        ],
        'limit': [
            Quantity('GEMM', rate, 'FLOP', 'measured',
                     f'a second, {SIDE[device]} x {SIDE[device]}, {dtype}'),
            Quantity('image', flops, 'FLOP', 'counted'),
            Quantity('teacher', 100 * work.teacher / 2 / flops, '%', 'counted',
                     'of the operations'),
            Quantity('used', 100 * step * flops / rate, '%', 'measured',
                     'of the GEMM rate, by the step'),
        ],
        'phases of a step': [*_phases(hook)],
        'memory': [_memory(device)],
    }


def _speed(name, batch, seconds):
    low, middle, high = statistics.quantiles([batch / s for s in seconds], n=4)
    return Quantity(name, middle, 'img/s', 'measured',
                    f'quartiles {low:.4g} and {high:.4g}')


def _share(name, shares, note):
    low, middle, high = statistics.quantiles([100 * s for s in shares], n=4)
    return Quantity(name, middle, '%', 'measured',
                    f'{note}; quartiles {low:.2g} and {high:.2g}')


def _phases(hook):
    medians = {
        name: 1000 * statistics.median(seconds[hook.length:])
        for name, seconds in hook.phases.items()
    }
    medians['student'] = medians.pop('forward') - medians.get('teacher', 0.)
    total = sum(medians.values())
    for name in 'pixels', 'teacher', 'student', 'backward', 'optimizer':
        if name in medians:
            yield Quantity(name, medians[name], 'ms', 'measured',
                           f'{medians[name] / total:.0%}')


def _memory(device):
    if device == 'cuda':
        return Quantity('peak', torch.cuda.max_memory_allocated(), 'B',
                        'measured', 'of tensors on the device')
    return Quantity('peak',
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                    'B', 'measured', 'of this process, without its workers')
