"""The counted bytes and operations of a step are those PyTorch reports."""
import json
from functools import partial
from math import prod

import pytest
import torch
from helpers.models import distillation
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mmfd.hosts import kernels
from mmfd.hosts.lookup import find
from mmfd.planning.count import count_step, weightless_model
from mmfd.training.sharding import BLOCKS, sharding_units

SWIN = dict(
    type='mmpretrain.SwinTransformerV2',
    arch=dict(
        embed_dims=32,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8],
        extra_norm_every_n_blocks=2),
    img_size=64,
    window_size=[8, 8, 4, 2])


def swin():
    config = Config.fromfile('configs/fd/swinv2g_fd.py').model
    config.teacher.update(checkpoint='random', backbone=SWIN, img_size=64)
    config.backbone = dict(SWIN, type='mmfd.StudentSwin', drop_path_rate=0.)
    config.neck.update(in_channels=256, out_channels=256)
    return config, 64


def vit():
    return distillation(), 32


@pytest.fixture
def no_buffers_within_kernels():
    """No threads that sum in buffers of their own, and no oneDNN.

    Its convolutions reorder their arguments in a way that depends on the CPU.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.backends.mkldnn.flags(enabled=False):
        yield
    torch.set_num_threads(threads)


def allocated(config,
              batch_size,
              img_size,
              dtype,
              recompute,
              trace,
              gradients=False):
    """Bytes after the forward, and the most, as PyTorch allocates them.

    Without `gradients`, those of weights are let go as soon as they are there.
    """
    model = MODELS.build(config).train()
    for block in sharding_units(model.backbone, BLOCKS) if recompute else ():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for param in model.parameters() if not gradients else ():
        param.register_post_accumulate_grad_hook(
            lambda p: setattr(p, 'grad', None))
    pixels = torch.rand(batch_size, 3, img_size, img_size)

    def step():
        with torch.autocast('cpu', dtype, enabled=dtype is not None):
            loss = model(pixels, mode='loss')['loss']
        with torch.profiler.record_function('backward begins'):
            pass
        loss.backward()

    step()  # makes what is made once
    model.zero_grad()
    with profile(
            activities=[ProfilerActivity.CPU],
            profile_memory=True) as profiler:
        step()
    profiler.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())['traceEvents']
    [middle] = [e['ts'] for e in events if e['name'] == 'backward begins']
    changes = sorted(
        (e['ts'], e['args']['Total Allocated'], e['args']['Bytes'])
        for e in events if e['name'] == '[memory]')
    before = changes[0][1] - changes[0][2]
    saved = [total for ts, total, _ in changes if ts < middle][-1]
    return saved - before, max(total for _, total, _ in changes) - before


@pytest.mark.parametrize('network, dtype, recompute', [
    (vit, None, None),
    (vit, None, BLOCKS),
    (vit, torch.bfloat16, None),
    (vit, torch.bfloat16, BLOCKS),
    (swin, None, BLOCKS),
    (swin, torch.bfloat16, None),
])
def test_counted_memory_of_a_step_is_what_pytorch_allocates(
        network, dtype, recompute, tmp_path, no_buffers_within_kernels):
    config, img_size = network()
    count = count_step(config, 8, img_size, 'cpu', dtype, recompute)
    saved, peak = allocated(config, 8, img_size, dtype, recompute,
                            tmp_path / 'trace')
    # smooth L1 holds its unreduced loss, of which a fake tensor knows nothing
    assert count.saved_bytes == pytest.approx(saved, rel=0.02, abs=2**17)
    assert count.peak_bytes == pytest.approx(peak, rel=0.03, abs=2**17)


def test_gradients_are_counted_as_they_come(tmp_path,
                                            no_buffers_within_kernels):
    config, img_size = vit()
    count = count_step(config, 8, img_size, 'cpu')
    _, full = allocated(
        config, 8, img_size, None, None, tmp_path / 'trace', gradients=True)
    assert count.full_bytes == pytest.approx(full, rel=0.03, abs=2**17)
    trained = sum(4 * p.numel() for p in weightless_model(config).parameters())
    assert 0 < count.full_bytes - count.peak_bytes < trained


def test_saved_memory_grows_with_the_batch_alone():
    few, more, most = (
        count_step(vit()[0], n, 32, 'cuda', torch.bfloat16, backward=False)
        for n in (12, 24, 36))
    assert (most.saved_bytes - more.saved_bytes ==
            more.saved_bytes - few.saved_bytes > 0)
    assert most.cast_bytes == few.cast_bytes
    scaled = 'attn.proj.weight', 'ffn.layers.1.weight'  # by gamma, in fp32
    weights = sum(p.numel()
                  for name, p in weightless_model(vit()[0]).named_parameters()
                  if p.ndim > 1 and not name.endswith(scaled))
    assert few.cast_bytes == pytest.approx(2 * weights, rel=0.01)


def test_counted_operations_are_those_of_pytorchs_counter():
    config, img_size = vit()
    count = count_step(config, 2, img_size, 'cpu')
    model = MODELS.build(config)
    pixels = torch.rand(2, 3, img_size, img_size)
    counter = partial(
        FlopCounterMode,
        display=False,
        custom_mapping={  # it does not know the kernels of a CPU
            find(kernels.ATTENTION_ON_CPU):
            lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
            torch.ops.mkldnn._linear_pointwise:
            lambda x, weight, *_, **__: 2 * prod(x) * weight[0]
        })
    with counter() as teacher:
        model.teacher(pixels)
    with counter() as step:
        model(pixels, mode='loss')['loss'].backward()
    assert count.teacher_flops == teacher.get_total_flops()
    assert count.flops == step.get_total_flops()
