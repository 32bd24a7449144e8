"""Measure a run on this machine: its step, its loader and all of it.

A few rounds of training are timed. Each round ends with the same number of
bare steps on the last batch, so that the whole program and its step are
compared under the same conditions.
"""
import os
import statistics
import tempfile
import time
from contextlib import contextmanager
from itertools import chain, islice, repeat
from math import prod

import torch
from mmengine.hooks import Hook

from mmfd.errors import Refused
from mmfd.hosts import system
from mmfd.planning.count import count_step, target_shapes
from mmfd.planning.quantities import Quantity
from mmfd.planning.training_images import img_size_of
from mmfd.registry import with_teachers
from mmfd.teacher import teachers_in
from mmfd.training import cached_teacher
from mmfd.training.loop import StopTraining

READ_BYTES = 2**27  # that `disk_read_rate` writes and reads
GEMM_SIZE = dict(cpu=2048, cuda=8192)  # of the square matrices of `gemm_rate`


def measure(cfg, prepare, rounds=5, length=5):
    """Train for some rounds in a temporary folder, and time it.

    Args:
        cfg (Config): as `launch.config_options.load_config` gives it.
        prepare (callable): `launch.runner.prepare`, which builds a Runner.
        rounds (int): how many times each quantity is measured.
        length (int): iterations of a round.

    Returns:
        dict: title -> list of `Quantity`.

    Raises:
        Refused: as `prepare`; for fewer rounds than quartiles need; if
            products in fp32 would be computed in a lower precision.
    """
    if rounds < 2 or length < 1:
        raise Refused(f'--rounds {rounds} --length {length}: measure two '
                      'rounds or more, of one iteration or more')
    cfg.model = with_teachers(cfg.model, cached_teacher.without_cache)
    hook = TimingHook(rounds, length)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir, cfg.visualizer = folder, None
        cfg.train_cfg.max_epochs = 10**6  # the hook ends it
        for part in 'val_dataloader', 'val_evaluator', 'val_cfg':
            cfg[part] = None
        cfg.default_hooks = dict(
            cfg.get('default_hooks') or {}, checkpoint=None)
        runner = prepare(cfg, train=True)
        device, dtype = _device_and_dtype(runner)
        runner.register_hook(hook)
        try:
            runner.train()
        except StopTraining:
            pass
        loading = [*_time_loader(runner.train_dataloader, rounds, length)]
    return _quantities(cfg, hook, loading, device, dtype)


class TimingHook(Hook):
    """Times iterations, bare steps and the phases of a step, in rounds.

    The first of everything warms up.

    Args:
        rounds (int): how many count; one more warms up.
        length (int): iterations, bare steps and steps in phases of a round.

    Attributes:
        iterations, waits, steps (list[float]): seconds of an iteration, of
            its wait for data and of a bare step, one for each round.
        phases (dict): name -> seconds, one for each step in phases.

    Raises:
        StopTraining: after the last round.
    """
    priority = 'LOWEST'  # after all others have done what belongs to a step

    def __init__(self, rounds, length):
        self.rounds, self.length = rounds, length
        self.iterations, self.waits, self.steps = [], [], []
        self.phases = {}
        self.start = None

    def before_train_epoch(self, runner):
        if self.start is None:
            self._begin_round()

    def _begin_round(self):
        _synchronize()
        self.start = self.last_end = time.perf_counter()
        self.count, self.waited = 0, 0.

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.waited += time.perf_counter() - self.last_end

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.last_end, self.count = time.perf_counter(), self.count + 1
        if self.count < self.length:
            return
        _synchronize()
        self.iterations.append(
            (time.perf_counter() - self.start) / self.length)
        self.waits.append(self.waited / self.length)
        self._time_steps(runner, data_batch)
        self._time_phases(runner, data_batch)
        if len(self.iterations) > self.rounds:
            raise StopTraining
        self._begin_round()

    def _time_steps(self, runner, batch):
        start = time.perf_counter()
        for _ in range(self.length):
            runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        _synchronize()
        self.steps.append((time.perf_counter() - start) / self.length)

    def _time_phases(self, runner, batch):
        model, optim, timed = runner.model, runner.optim_wrapper, self._timed
        for _ in range(self.length):
            with optim.optim_context(model):
                with timed('pixels'):
                    data = model.data_preprocessor(batch, True)
                if teachers := teachers_in(model):
                    with timed('teacher'):
                        for teacher in teachers:
                            teacher(data['inputs'])
                with timed('forward'):  # of teacher and student
                    loss, _ = model.parse_losses(model(**data, mode='loss'))
            with timed('backward'):
                optim.backward(loss)
            with timed('optimizer'):
                optim.step()
                optim.zero_grad()

    @contextmanager
    def _timed(self, phase):
        _synchronize()
        start = time.perf_counter()
        yield
        _synchronize()
        self.phases.setdefault(phase, []).append(time.perf_counter() - start)


def _synchronize():
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _time_loader(loader, rounds, length):
    """Seconds of a batch, of rounds of batches and nothing else."""
    batches = chain.from_iterable(repeat(loader))
    prefetched = loader.num_workers * (loader.prefetch_factor or 0)
    for _ in islice(batches, prefetched + length):  # these have waited already
        pass
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in islice(batches, length):
            pass
        yield (time.perf_counter() - start) / length


def gemm_rate(device, dtype):
    """Floating-point operations per second of a large matrix product.

    No network computes faster.
    """
    size = GEMM_SIZE[device]
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(12):
        start = time.perf_counter()
        a @ b
        _synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[2:])


def disk_read_rate(folder):
    """Bytes per second that are read from the disk, and not from memory.

    Args:
        folder (str): on that disk; a temporary file is written there.

    Raises:
        Refused: if nothing can be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(READ_BYTES))
            file.flush()
            os.fsync(file.fileno())
            if not system.forget_cached(file):
                raise Refused(f'the disk of {folder} cannot be measured: this '
                              'system would read the file from its memory; '
                              'leave out --cache')
            file.seek(0)
            start = time.perf_counter()
            while file.read(2**18):
                pass
            return READ_BYTES / (time.perf_counter() - start)
    except OSError as error:
        raise Refused(f'the disk of {folder} cannot be measured: '
                      f'{error.strerror}: name a folder that is there and '
                      f'takes {READ_BYTES >> 20} MiB') from error


def live_and_cached_teacher(plan, folder, store, throughput=None, tflops=None):
    """What the teacher of a plan costs if it runs live, and from a cache.

    The disk is measured. The teacher's speed, if it is not given, is taken to
    be the GEMM rate of this machine, which no teacher reaches.

    Args:
        plan (Plan): of the run.
        folder (str): on the disk that the cache would be on.
        store (str): `bfloat16` or `int8`.
        throughput, tflops (float): as in `Plan.totals`.

    Yields:
        Quantity: the last three are called `live`, `cached` and `size`.
    """
    flops = {part.name: part.value for part in plan.operations()}
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if throughput:
        seconds = flops['teacher'] / sum(flops.values()) / throughput
        how, note = 'stated', "its share of a step's operations"
    else:
        rate = tflops * 1e12 if tflops else gemm_rate(
            device, plan.dtype or torch.float32)
        seconds = flops['teacher'] / rate
        how = 'stated' if tflops else 'measured'
        note = f'an image, at {rate / 1e12:.3g}e12 operations a second'
    pipeline = plan.cfg.train_dataloader.dataset.pipeline
    views = next((s.views for s in pipeline if 'views' in s), 1)
    shapes = target_shapes(plan.cfg.model, img_size_of(pipeline))
    target_bytes = sum(map(prod, shapes)) * getattr(torch, store).itemsize
    rate = disk_read_rate(folder)
    totals = {part.name: part.value for part in plan.totals()}
    targets, epochs = totals['images'], plan.cfg.train_cfg.max_epochs
    # views of an image that are drawn at least once in so many epochs
    computed = targets / epochs * views * (1 - (1 - 1 / views)**epochs)
    read = targets - computed
    yield Quantity('teacher', 1000. * seconds, 'ms', how, note)
    yield Quantity('disk', rate, 'B', 'measured',
                   f'a second, read in {folder}')
    yield Quantity('live', seconds * targets, 's', how, f'{targets:,} targets')
    yield Quantity('cached', seconds * computed + read * target_bytes / rate,
                   's', how,
                   f'{round(computed):,} computed, {round(read):,} read')
    yield Quantity(
        'size', computed * target_bytes, 'B', 'counted',
        f'{views} views of an image, ' +
        ' and '.join(f'{tokens} x {width}'
                     for tokens, width in shapes) + f' {store}')


def live_or_cached_advice(quantities):
    """A sentence from the quantities of `live_and_cached_teacher`."""
    live, cached, size = (
        next(q.value for q in quantities if q.name == name)
        for name in ('live', 'cached', 'size'))
    cheaper = 'cached' if cached < live else 'live'
    return (f'The teacher is cheaper {cheaper}: {live / 3600:.3g} hours live, '
            f'{cached / 3600:.3g} hours and {size / 1e9:.3g} GB cached, on '
            'all GPUs together.')


def _device_and_dtype(runner):
    """Of the matrix products of a run."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    wrapper = runner.optim_wrapper
    dtype = wrapper.dtype if hasattr(wrapper, 'dtype') else torch.float32
    precision = torch.get_float32_matmul_precision()
    if dtype is torch.float32 and precision != 'highest':
        raise Refused(
            f'fp32 products would be computed in {precision!r} precision: '
            "torch.set_float32_matmul_precision('highest') before measuring")
    return device, dtype


def _quantities(cfg, hook, loading, device, dtype):
    batch_size = cfg.train_dataloader.batch_size
    img_size = img_size_of(cfg.train_dataloader.dataset.pipeline)
    count = count_step(cfg.model, 2, img_size, 'cpu')
    rate = gemm_rate(device, dtype)
    flops = count.flops / 2  # of an image
    steps, iterations, waits = (
        seconds[1:] for seconds in (hook.steps, hook.iterations, hook.waits))
    throughput = batch_size / statistics.median(steps)
    overhead = [i / s - 1 for i, s in zip(iterations, steps)]
    size = GEMM_SIZE[device]
    return {
        'images per second': [
            _throughput('step', batch_size, steps),
            _throughput('loader', batch_size, loading),
            _throughput('whole', batch_size, iterations),
            _share('overhead', overhead, 'whole program over its step'),
            _share('data wait', [w / i for w, i in zip(waits, iterations)],
                   'of the whole program'),
        ],
        'limit': [
            Quantity('GEMM', rate, 'FLOP', 'measured',
                     f'a second, {size} x {size}, {dtype}'),
            Quantity('image', flops, 'FLOP', 'counted'),
            Quantity('teacher', 100 * count.teacher_flops / 2 / flops, '%',
                     'counted', 'of the operations'),
            Quantity('used', 100 * throughput * flops / rate, '%', 'measured',
                     'of the GEMM rate, by the step'),
        ],
        'phases of a step': [*_phases(hook)],
        'memory': [*_peak_memory(device)],
    }


def _throughput(name, batch_size, seconds):
    low, median, high = statistics.quantiles([batch_size / s for s in seconds],
                                             n=4)
    return Quantity(name, median, 'img/s', 'measured',
                    f'quartiles {low:.4g} and {high:.4g}')


def _share(name, shares, note):
    low, median, high = statistics.quantiles([100 * s for s in shares], n=4)
    return Quantity(name, median, '%', 'measured',
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


def _peak_memory(device):
    if device == 'cuda':
        yield Quantity('peak', torch.cuda.max_memory_allocated(), 'B',
                       'measured', 'of tensors on the device')
    elif (peak := system.peak_memory()) is not None:
        yield Quantity('peak', peak, 'B', 'measured',
                       'of this process, without its workers')
