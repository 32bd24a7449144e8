"""The whole optimisation step, ours beside others' in turn (A-B-A-B).

    python benchmarks/step.py vitb --official ../Feature-Distillation
    python benchmarks/step.py vitti --peers FOLDER --json results.json

A fixed batch of pixels in memory, random weights, no loader. Ours is
`train_step` of the model and the optimizer that a config names; the official
code is the FD, the optimizer and the loop body of its repository, with a
teacher of random weights in the place of the download; a peer is a script
that calls `common.timeit(step)`. Each is in a process of its own, which does
one step at a time, in turn with the others; memory is that of the process,
Python and its libraries in it. Needs `timm` and `yacs` for the official code
and what each peer needs for it.
"""
import argparse
import contextlib
import io
import json
import multiprocessing
import os
import resource
import runpy
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope

from mmfd.fast import compile_blocks
from mmfd.launch import threads
from mmfd.planning.count import count_step

YAML = 'configs/pretrain/fd_pretrain__{}__img224__300ep.yaml'
SMALL = {  # ViT-Ti from ViT-S, plain, at the peers' drop path
    'model.backbone.arch': 'deit-tiny',
    'model.backbone.drop_path_rate': 0.,
    'model.teacher.backbone.arch': 'deit-small',
    'model.neck.in_channels': 192,
    'model.neck.out_channels': 384,
}
PAIRS = {  # name -> our config, changes to it, the official one
    'vitb': ('clip_vitb_fd', {}, YAML.format('clip_vit_base')),
    'swinb': ('esvit_swinb_fd', {}, YAML.format('esvit_swin_base')),
    'vitti': ('dino_vitb_fd', SMALL, None),
}
PEERS = {
    'plain PyTorch': ['bench_eager_fd.py', '{}', 'vit_tiny_patch16_224'],
    'timm': ['bench_timm.py', '{}', 'vit_tiny_patch16_224'],
    'torchdistill': ['bench_torchdistill.py', '{}', 'vit_tiny_patch16_224'],
    'lightly-train v3':
    ['bench_lightly.py', 'v3', '{}', 'timm/vit_tiny_patch16_224'],
}


def settings(config, changes):
    cfg = Config.fromfile(f'configs/fd/{config}.py')
    cfg.merge_from_dict({'model.teacher.checkpoint': 'random', **changes})
    return cfg


def gflop(config, changes):
    """10^9 operations of an image: teacher, student and its backward."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        count = count_step(settings(config, changes).model, 2, 224, 'cpu')
    return count.flops / 2 / 1e9


def ours(config, changes, batch, autocast, compiled=False):
    cfg = settings(config, changes)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
        model.init_weights()
    if compiled:
        compile_blocks.compile_blocks(model, {})
    wrapper = dict(cfg.optim_wrapper)
    constructor = wrapper.pop('constructor')
    dtype = 'bfloat16' if autocast else 'float32'
    optim = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(type=constructor, optim_wrapper_cfg=dict(wrapper, dtype=dtype)))
    optim = optim(model.train())
    images = torch.randint(0, 256, (batch, 3, 224, 224), dtype=torch.uint8)
    return lambda: model.train_step(dict(inputs=images), optim)


def official(path, yaml, batch, autocast):
    sys.path.insert(0, path)
    import config as defaults
    from models import build_model, feature_distillation
    from models.clip.model import CLIP
    from models.esvit import WarpperSwinTransformer
    from optimizer import build_optimizer
    cfg = defaults._C.clone()
    cfg.merge_from_file(f'{path}/{yaml}')

    def clip(*_, **__):
        return CLIP(512, 224, 12, 768, 16, 77, 49408, 512, 8, 12), None

    def esvit(*_, **__):
        return WarpperSwinTransformer(
            patch_size=4,
            embed_dim=128,
            depths=[2, 2, 18, 2],
            num_heads=[4, 8, 16, 32],
            window_size=14,
            num_classes=0)

    with patch.multiple(
            feature_distillation, load_clip=clip, load_esvit=esvit):
        model = build_model(cfg, is_pretrain=True).train()
    log = SimpleNamespace(info=lambda _: None)
    optim = build_optimizer(cfg, model, log, is_pretrain=True)
    images = torch.randn(batch, 3, 224, 224)

    def step():
        with torch.autocast('cpu', torch.bfloat16, autocast):
            loss = model(images)['loss']
        optim.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.TRAIN.CLIP_GRAD)
        optim.step()
        return loss.item()

    return step


def peer(folder, command, batch, autocast):
    """The step that a script would time."""
    found = []

    def timeit(step):
        found.append(step)
        return 1.

    name, *args = (part.format(batch) for part in command)
    args = [name, *args, 'vit_small_patch16_224']
    if 'v3' in args:
        args[-1] = 'timm/' + args[-1]
    sys.modules['common'] = SimpleNamespace(timeit=timeit)
    os.environ['THREADS'] = str(torch.get_num_threads())
    with patch('sys.argv', args), contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path(str(Path(folder, name)))

    def step():
        with torch.autocast('cpu', torch.bfloat16, autocast):
            found[0]()

    return step


def gemm_rate(dtype, tokens):
    """FLOP/s of the products of a ViT-B's FFN, forward and backward."""
    x, w = torch.randn(tokens, 768), torch.randn(3072, 768)
    x, w = x.to(dtype), w.to(dtype)
    y = x @ w.t()

    def products():
        torch.nn.functional.linear(x, w), y @ w, y.t() @ x

    seconds = [clock(products) for _ in range(6)][1:]
    return 6 * x.numel() * len(w) / statistics.median(seconds)


def clock(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def makers(args):
    """What builds the steps to time, by name."""
    config, changes, yaml = PAIRS[args.pair]
    given = args.batch, args.dtype == 'bf16'
    found = {'mmfd': partial(ours, config, changes, *given)}
    if args.compile:
        found['mmfd, compiled'] = partial(found['mmfd'], compiled=True)
    if args.official and yaml:
        found['official'] = partial(official, args.official, yaml, *given)
    if args.peers:
        for name, command in PEERS.items():
            found[name] = partial(peer, args.peers, command, *given)
    return found


def serve(make, args, pipe):
    """Time a step whenever asked; at the end say what memory it took."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    assert torch.get_float32_matmul_precision() == 'highest'
    step = make()
    for _ in range(args.warmup):
        step()
    pipe.send('ready')
    while pipe.recv():
        pipe.send(clock(step))
    assert torch.get_float32_matmul_precision() == 'highest'
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('pair', choices=PAIRS)
    parser.add_argument('--official', metavar='FOLDER')
    parser.add_argument('--peers', metavar='FOLDER')
    parser.add_argument('--dtype', choices=['fp32', 'bf16'], default='fp32')
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--steps', type=int, default=10, help='of each')
    parser.add_argument('--warmup', type=int, default=3)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--compile', action='store_true', help='ours, too')
    parser.add_argument('--json', metavar='FILE', help='appended to')
    args = parser.parse_args()
    threads.wait_briefly()
    spawn = multiprocessing.get_context('spawn')
    pipes, seconds, processes = {}, {}, []
    for name, make in makers(args).items():
        pipes[name], other = spawn.Pipe()
        seconds[name] = []
        processes.append(
            spawn.Process(target=serve, args=(make, args, other), daemon=True))
        processes[-1].start()
        other.close()
        pipes[name].recv()
    for i in range(args.steps):
        for name in [*pipes][::-1 if i % 2 else 1]:
            pipes[name].send(True)
            seconds[name].append(pipes[name].recv())
    memory = {}
    for name, pipe in pipes.items():
        pipe.send(False)
        memory[name] = pipe.recv()
    for process in processes:  # before products are timed
        process.join()
    report(args, seconds, memory)


def report(args, seconds, memory):
    result = dict(
        pair=args.pair,
        dtype=args.dtype,
        batch=args.batch,
        threads=args.threads,
        peak_gib={
            name: round(gib, 2)
            for name, gib in memory.items()
        },
        img_s={})
    for name, times in seconds.items():
        rates = [args.batch / t for t in times]
        low, mid, high = statistics.quantiles(rates, n=4)
        result['img_s'][name] = [round(r, 3) for r in (low, mid, high)]
        ratio = statistics.median(
            other / own for other, own in zip(times, seconds['mmfd']))
        print(f'{name:18} {mid:7.2f} img/s ({low:.2f}-{high:.2f}) '
              f'{memory[name]:6.2f} GiB  mmfd {ratio:.2f} x')
    rate = gemm_rate(torch.bfloat16 if args.dtype == 'bf16' else torch.float32,
                     197 * args.batch)
    limit = rate / 1e9 / gflop(*PAIRS[args.pair][:2])
    result.update(
        gemm_gflop_s=round(rate / 1e9, 1), limit_img_s=round(limit, 3))
    print(f'matrix products alone run at {rate / 1e9:.0f} GFLOP/s, enough for '
          f'{limit:.2f} img/s')
    if args.json:
        file = Path(args.json)
        rows = json.loads(file.read_text()) if file.exists() else []
        file.write_text(json.dumps([*rows, result], indent=1) + '\n')


if __name__ == '__main__':
    main()
