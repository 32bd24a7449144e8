"""One model in shards: each process keeps a part of every weight.

Gradients and the optimizer's moments follow their weights. PyTorch's
`fully_shard` gathers a block when it is used and lets go of it afterwards, so
no process ever holds the whole network. Files know nothing of this: states
are gathered when they are written and cut when they are read.
"""
import re
from collections import Counter
from functools import partial
from itertools import chain

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.runner import Runner
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils import serialization

from mmfd.errors import Refused
from mmfd.registry import MODEL_WRAPPERS
from mmfd.weights.meta_device import weightless

# The blocks of ViTs, ResNets, ConvNeXts and Swins
BLOCKS = r'(layers|layer\d+|stages\.\d+(\.blocks)?)\.\d+'


def parts_of(network, pattern):
    """What of a backbone is gathered and let go as one.

    These are its blocks, the modules whose whole name matches `pattern`, and
    before them what several blocks have in common.

    Raises:
        Refused: if there is no block.
    """
    blocks = [
        module for name, module in network.named_modules()
        if re.fullmatch(pattern, name)
    ]
    if not blocks:
        lists = [
            name for name, module in network.named_modules()
            if isinstance(module, (nn.ModuleList, nn.Sequential))
        ]
        raise Refused(
            f'no module of {type(network).__name__} has a name like blocks='
            f'{pattern!r}: set model_wrapper_cfg.blocks to a pattern of the '
            f'names of its blocks; its lists of modules are '
            f'{", ".join(lists[:6])} ...')
    uses = Counter(part for block in blocks for part in block.modules())
    common = [part for part in uses if uses[part] > 1]
    within = {inner for part in common for inner in [*part.modules()][1:]}
    return [
        part for part in common
        if part not in within and any(True for _ in part.parameters())
    ] + blocks


@MODEL_WRAPPERS.register_module()
class FullySharded(nn.Module):
    """Shard `module` over all processes, block by block.

    The first process has drawn or read all weights; the others, which may
    have none yet, get their parts from it. What is in no block, such as the
    embedding of patches, neck and head, is one more part, gathered from
    forward to backward. `mmfd.Teacher` hides its backbone, so that is sharded
    by itself; each block of it is let go after its forward.

    Its state dict is that of the unsharded model, whole on the first process
    and without memory (on the meta device) elsewhere; asking for it takes all
    processes. It loads whole weights too. Blocks may share a module, but not
    a weight of different modules.

    Args:
        module (nn.Module): with a `backbone`, maybe with a `teacher`.
        blocks (str): regular expression; what of a backbone's modules has a
            name that it matches is gathered and let go as one.
        shard_teacher (bool): or keep all of the teacher in every process,
            which saves the time of gathering it.
        param_dtype (str): `bfloat16` gathers weights in half the size and
            computes under autocast, evaluations too. Shards, gradients summed
            over processes and moments stay fp32.

    Raises:
        Refused: if a backbone has no blocks, or two modules one weight.
    """

    def __init__(self,
                 module,
                 blocks=BLOCKS,
                 shard_teacher=True,
                 param_dtype=None):
        super().__init__()
        _refuse_tied(module)
        device = torch.device(get_device()).type
        dtype = param_dtype and getattr(torch, param_dtype)
        shard = partial(
            fully_shard,
            mesh=init_device_mesh(device, (get_world_size(), )),
            mp_policy=MixedPrecisionPolicy(
                dtype, reduce_dtype=torch.float32,
                cast_forward_inputs=False))  # pixels are not for bf16
        whole = _tensors(module)
        module.to('meta')
        for part in parts_of(module.backbone, blocks):
            shard(part)
        shard(module)
        if shard_teacher:
            for network in teachers(module):
                for part in (*parts_of(network, blocks), network):
                    shard(part)
        module.to_empty(device=device)
        for tensor, values in zip(_tensors(module), whole):
            _receive(tensor, values)
        module.to(get_device())  # tells the preprocessor where
        module.register_state_dict_post_hook(_gather_weights)
        for part in module.modules():
            part.register_load_state_dict_pre_hook(_cut_weights)
        if dtype:  # what meets the weights: buffers, norms, the loss
            module.forward = torch.autocast(device, dtype)(module.forward)
        self.module = module

    def train_step(self, data, optim_wrapper):
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data):
        return self.module.val_step(data)

    def test_step(self, data):
        return self.module.test_step(data)

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


class ShardedRunner(Runner):
    """The host's runner, where its dealings with weights take all processes.

    The first process builds the model in its own memory, draws the initial
    weights and reads the teacher's; the others build it without weights. A
    run so needs one whole copy of student and teacher in the memory of the
    first machine, and no GPU ever holds one.
    """

    def build_model(self, model):
        if is_main_process():
            model = super().build_model(model)
            model.init_weights()
            return model
        if 'teacher' in model:  # whose file the first process reads
            teacher = dict(model['teacher'], checkpoint='random')
            model = dict(model, teacher=teacher)
        with weightless():
            return super().build_model(model)

    def wrap_model(self, model_wrapper_cfg, model):
        return MODEL_WRAPPERS.build(
            model_wrapper_cfg, default_args=dict(module=model))

    def _init_model_weights(self):
        """`build_model` has."""

    def build_optim_wrapper(self, optim_wrapper):
        built = super().build_optim_wrapper(optim_wrapper)
        if built is not optim_wrapper:
            built.optimizer.register_state_dict_post_hook(_gather_moments)
            built.optimizer.register_load_state_dict_pre_hook(_cut_moments)
        return built

    def save_checkpoint(self, *args, save_optimizer=True, **kwargs):
        """The first process writes, the others give their shards."""
        super().save_checkpoint(*args, save_optimizer=save_optimizer, **kwargs)
        if not is_main_process():  # the host has returned at once
            self.model.module.state_dict()
            if save_optimizer:
                self.optim_wrapper.state_dict()

    def load_checkpoint(self, filename, *args, **kwargs):
        """Each process takes its shards out of a map of the file."""
        with serialization.config.patch('load.mmap', True):
            return super().load_checkpoint(filename, *args, **kwargs)

    def resume(self, filename, *args, **kwargs):
        kwargs['map_location'] = 'cpu'  # no GPU has room for a whole state
        super().resume(filename, *args, **kwargs)


def teachers(model):
    """A list of the backbone that `mmfd.Teacher` hides, if there is one."""
    return [
        child.backbone for name, child in model.named_children()
        if name == 'teacher'
    ]


def _refuse_tied(model):
    """Shards, as moves to another kind of device, would make two of one."""
    owners = {}
    for network in (model, *teachers(model)):
        for name, module in network.named_modules():
            for own, param in module.named_parameters(recurse=False):
                owners.setdefault(param, []).append(f'{name}.{own}')
    for names in owners.values():
        if len(names) > 1:
            raise Refused(
                f'{" and ".join(names)} are one weight, which shards cannot '
                'be: give each its own, or train without model_wrapper_cfg')


def _tensors(model):
    """All that has to be given to the other processes, in one order."""
    return [
        tensor for network in (model, *teachers(model))
        for tensor in chain(network.parameters(), network.buffers())
    ]


@torch.no_grad()
def _receive(tensor, values):
    """Fill `tensor`, or this process's shard, with the first's `values`."""
    if get_rank() == 0:
        values = values.detach().to(tensor.device)
    else:
        values = torch.empty_like(values, device=tensor.device)
    distributed.broadcast(values, src=0)
    tensor.copy_(_cut(values, tensor))


def _cut(values, like):
    """The shard of whole `values` that fits the shard `like`."""
    if not isinstance(like, DTensor) or isinstance(values, DTensor):
        return values
    return distribute_tensor(
        values, like.device_mesh, like.placements, src_data_rank=None)


def _gather(value):
    """A shard to the whole on the first process; all have to call it."""
    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()
    return whole.cpu() if is_main_process() else whole.to('meta')


def _gather_weights(module, state_dict, prefix, metadata):
    for name, value in state_dict.items():
        state_dict[name] = _gather(value.detach())


def _cut_weights(module, state_dict, prefix, *_):
    for name, param in module.named_parameters(recurse=False):
        values = state_dict.get(prefix + name)
        if values is not None and values.shape == param.shape:
            state_dict[prefix + name] = _cut(values, param)


def _gather_moments(optimizer, state_dict):
    state = {
        index: {
            name: _gather(value)
            for name, value in moments.items()
        }
        for index, moments in state_dict['state'].items()
    }
    return dict(state_dict, state=state)


def _cut_moments(optimizer, state_dict):
    params = dict(
        zip(
            _members(state_dict['param_groups']),
            _members(optimizer.param_groups)))
    state = {
        index: {
            name:
            _cut(value, params[index])
            if value.shape == params[index].shape else value
            for name, value in moments.items()
        }
        for index, moments in state_dict['state'].items()
    }
    return dict(state_dict, state=state)


def _members(groups):
    return [param for group in groups for param in group['params']]
