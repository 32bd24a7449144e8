"""What benchmarks/gpu.py checks, section by section.

Each yields what it has looked at, its value, and a bound or None.
"""
import copy
import io
import math
import statistics
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from mmfd.data.sampler import seed_all
from mmfd.fast.compile_blocks import compile_blocks
from mmfd.hosts import operations
from mmfd.launch.runner import adapt_to_gpus
from mmfd.planning.count import count_step

FD = 'configs/fd/clip_vitb_fd.py'
FD_L = 'configs/fd/clip_vitl_fd.py'
SWIN = 'configs/fd/esvit_swinb_fd.py'
TUNED = 'configs/classification/clip_vitb_fd_in1k.py'
SAME = FD, SWIN, TUNED  # compared with the CPU
# config, batch, dtype, compiled
SPEEDS = [
    (FD, 128, 'bfloat16', False),
    (FD, 256, 'bfloat16', False),
    (SWIN, 128, 'bfloat16', False),
    (TUNED, 128, 'bfloat16', False),
    (FD_L, 128, 'bfloat16', False),
    (FD, 128, 'bfloat16', True),
    (FD, 128, 'float16', False),
    (FD, 64, 'float32', False),
]
# What --small makes of them
VIT = dict(
    _delete_=True,
    embed_dims=192,
    num_layers=2,
    num_heads=3,
    feedforward_channels=768)
OF_SWIN = dict(
    _delete_=True, embed_dims=32, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8])
SMALL = {
    FD: {
        'backbone.arch': VIT,
        'teacher.backbone.arch': VIT,
        'neck.in_channels': 192,
        'neck.out_channels': 192
    },
    TUNED: {
        'backbone.arch': VIT,
        'head.in_channels': 192
    },
    SWIN: {
        'backbone.arch': dict(OF_SWIN, extra_norm_every_n_blocks=0),
        'teacher.backbone.arch': OF_SWIN,
        'neck.in_channels': 256,
        'neck.out_channels': 256
    },
}
SCALE = 1024  # of a loss, whose gradients fp16 has no numbers for else
# Relative distance of loss and of all gradients from fp32 on the CPU
BOUNDS = dict(
    float32=(1e-4, 1e-3), bfloat16=(2e-2, 6e-2), float16=(5e-3, 2e-2))


@dataclass(frozen=True)
class Place:
    """Where the sections run: a device, and at full size or only for a try."""
    device: str
    small: bool = False

    def either(self, full, small):
        return small if self.small else full


class Case:
    """A model of a config on a device, its optimizer, and a batch of noise.

    Args:
        config (str): path.
        batch (int): images.
        place (Place): where it is trained.
        dtype (str): of autocast; `float32` is none.
        state (dict): weights; None are drawn, always the same.
        mixed (bool): whether a classifier mixes its images.
    """

    def __init__(self,
                 config,
                 batch,
                 place,
                 dtype='float32',
                 state=None,
                 mixed=True):
        cfg = self.cfg = Config.fromfile(config)
        if place.small:
            cfg.merge_from_dict({
                f'model.{k}': v
                for k, v in SMALL[config].items()
            })
        if cfg.model.get('teacher'):
            cfg.model.teacher.checkpoint = 'random'
        cfg.model.backbone.init_cfg = None
        if not mixed:
            cfg.model.pop('train_cfg', None)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            torch.manual_seed(0)
            model = MODELS.build(cfg.model)
            model.init_weights()
            if state:
                model.load_state_dict(state)
            self.model = model.to(place.device).train()
            adapt_to_gpus(model)
            wrapper = dict(
                cfg.optim_wrapper, type='mmfd.AmpOptimWrapper', dtype=dtype)
            self.optim = build_optim_wrapper(model, wrapper)
        self.optim.device = place.device  # of the two there are
        self.batch, self.device = batch, place.device
        side = self.side = cfg.model.backbone.img_size
        random = torch.Generator().manual_seed(1)
        self.images = torch.randint(
            256, (batch, 3, side, side), dtype=torch.uint8, generator=random)
        if place.device == 'cuda':
            self.images = self.images.pin_memory()

    def data(self):
        sample = DataSample()
        if 'num_classes' in (self.cfg.model.get('head') or {}):
            sample.set_gt_label(1)
        return dict(
            inputs=self.images,
            data_samples=[sample.clone() for _ in range(self.batch)])

    def step(self, iteration=0):
        """Train on the batch; the loss stays where it is."""
        seed_all(0, 0, iteration)
        loss = self.model.train_step(self.data(), self.optim)['loss']
        self.optim.take_norm()
        return loss

    def gradients(self):
        """The loss and every gradient of one batch, on the CPU in fp32."""
        seed_all(7)
        with self.optim.optim_context(self.model):
            data = self.model.data_preprocessor(self.data(), True)
            loss, _ = self.model.parse_losses(self.model(**data, mode='loss'))
        (SCALE * loss).backward()
        grads = {
            name: param.grad.float().cpu() / SCALE
            for name, param in self.model.named_parameters()
            if param.grad is not None
        }
        self.model.zero_grad()
        return loss.item(), grads


def apart(found, expected):
    """The relative distance of two sets of tensors, all together."""
    distance = sum((found[k] - expected[k]).square().sum() for k in expected)
    size = sum(tensor.square().sum() for tensor in expected.values())
    return math.sqrt(distance / size)


def named(config):
    return config.rpartition('/')[2].removesuffix('.py')


def machine(place):
    """What is measured on, and what products and copies reach alone."""
    yield 'PyTorch', torch.__version__, None
    name = torch.cuda.get_device_name() if place.device == 'cuda' else 'CPU'
    yield 'device', name, None
    side = place.either(8192, 256)
    for dtype in torch.bfloat16, torch.float32:
        rate = gemm_rate(place.device, dtype, side)
        yield f'{dtype} products, TFLOP/s', rate, None
    x = torch.empty(place.either(2**30, 2**16), device=place.device)
    y = torch.empty_like(x)
    seconds = clocked(partial(y.copy_, x), place.device, 5)
    yield 'copy, TB/s', 2 * x.nbytes / seconds / 1e12, None


def gemm_rate(device, dtype, side):
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in 'ab')
    return 2e-12 * side**3 / clocked(partial(torch.mm, a, b), device, 5)


def clocked(call, device, times):
    """Median seconds of a call, after two that warm up."""
    seconds = []
    for _ in range(times + 2):
        wait(device)
        start = time.perf_counter()
        call()
        wait(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


def wait(device):
    if device == 'cuda':
        torch.cuda.synchronize()


def numbers(place):
    """Loss and gradients against fp32 on the CPU."""
    for config in SAME:
        exact = Case(config, 4, replace(place, device='cpu'), mixed=False)
        state = copy.deepcopy(exact.model.state_dict())
        loss, grads = exact.gradients()
        for dtype, (of_loss, of_all) in BOUNDS.items():
            case = Case(config, 4, place, dtype, state, mixed=False)
            found, own = case.gradients()
            title = f'{named(config)}, {dtype}'
            yield f'{title}: loss', abs(found / loss - 1), of_loss
            yield f'{title}: gradients', apart(own, grads), of_all


def attention(place):
    """Attentions that keep all their scores: none."""
    for config in SAME:
        seen = Counter()
        case = Case(config, 2, place, 'bfloat16')
        with operations.every_operation(
                lambda func, *_: seen.update([func.overloadpacket.__name__])):
            case.step()
        yield f'{named(config)}: not fused', seen['_safe_softmax'], 0


def learning(place):
    """Twenty steps on one batch; a gradient that is infinite."""
    for dtype in BOUNDS:
        case = Case(FD, 8, place, dtype)
        steps = range(place.either(20, 3))
        losses = torch.stack([case.step(i) for i in steps]).tolist()
        yield f'{dtype}: last loss over first', losses[-1] / losses[0], 1.
    before = copy.deepcopy(case.model.state_dict())
    scale = case.optim.scaler.get_scale()
    first = next(p for p in case.model.parameters() if p.requires_grad)
    hook = first.register_hook(lambda grad: grad * math.inf)
    case.step()
    hook.remove()
    changed = sum(not torch.equal(value, before[name])
                  for name, value in case.model.state_dict().items())
    yield 'float16: weights changed by an infinite gradient', changed, 0
    yield ('float16: scale after it over before',
           case.optim.scaler.get_scale() / scale, 0.5)


def resuming(place):
    """Three steps, a file, three more, against six."""
    ends = []
    for cut in None, 3:
        case = Case(FD, 8, place, 'bfloat16')
        for i in range(6):
            if i == cut:
                file = io.BytesIO()
                torch.save([case.model.state_dict(),
                            case.optim.state_dict()], file)
                file.seek(0)
                state, moments = torch.load(file, 'cpu', weights_only=True)
                case = Case(FD, 8, place, 'bfloat16', state)
                case.optim.load_state_dict(moments)
            case.step(i)
        ends.append({
            k: v.float().cpu()
            for k, v in case.model.state_dict().items()
        })
    yield '3 + 3 steps against 6: weights', apart(*ends[::-1]), 1e-5
    equal = all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])
    yield 'equal bit for bit', equal, None


def waiting(place):
    """Steps that wait for the GPU: none."""
    for config in SAME:
        for dtype in 'bfloat16', 'float16':
            case = Case(config, 8, place, dtype)
            case.step(), case.step()
            with no_waits(place.device):
                case.step()
            yield f'{named(config)}, {dtype}: waits', 0, 0


@contextmanager
def no_waits(device):
    """Within it, an operation that waits for a GPU is an error."""
    if device != 'cuda':
        yield
        return
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def speed(place):
    """Images per second, against products alone; host time; memory."""
    for config, batch, dtype, compiled in place.either(SPEEDS, SPEEDS[:1]):
        case = Case(config, place.either(batch, 2), place, dtype)
        title = f'{named(config)}, {case.batch}, {dtype}'
        title += ', compiled' * compiled
        if compiled:
            start = time.perf_counter()
            compile_blocks(case.model, {})
            case.step(), case.step(1), wait(place.device)
            yield f'{title}: warm-up, s', time.perf_counter() - start, None
        if place.device == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        seconds, host = step_times(case, place.either(10, 2))
        rate = case.batch / seconds
        side = place.either(8192, 256)
        limit = gemm_rate(place.device, getattr(torch, dtype), side)
        yield f'{title}: img/s', rate, None
        yield (f'{title}: % of products alone',
               100 * rate * tera_per_image(case) / limit, None)
        yield f'{title}: ms of a step', 1e3 * seconds, None
        yield f'{title}: of these the host is busy', 1e3 * host, None
        if place.device == 'cuda':
            peak = torch.cuda.max_memory_allocated() / 2**30
            yield f'{title}: peak, GiB', peak, None


def step_times(case, count):
    """Seconds of a step, and until the host has launched it."""
    for i in range(3):
        case.step(i)
    wait(case.device)
    start = time.perf_counter()
    for i in range(count):
        case.step(i)
    launched = time.perf_counter() - start
    wait(case.device)
    return (time.perf_counter() - start) / count, launched / count


def tera_per_image(case):
    """10^12 operations of an image: teacher, student and its backward."""
    count = count_step(case.cfg.model, 2, case.side, 'cpu')
    return count.flops / 2 / 1e12


def kernels(place):
    """Where the time of a step goes."""
    case = Case(FD, place.either(128, 2), place, 'bfloat16')
    case.step(), case.step()
    with torch.profiler.profile() as profiler:
        case.step()
        wait(place.device)
    of = f"self_{'device' if place.device == 'cuda' else 'cpu'}_time_total"
    events = [(getattr(e, of), e.key) for e in profiler.key_averages()]
    total = sum(time for time, _ in events)
    for part, key in sorted(events, reverse=True)[:15]:
        yield f'% of a step: {key[:60]}', 100 * part / total, None
