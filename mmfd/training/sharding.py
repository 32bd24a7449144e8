"""One model in shards: each process keeps a part of every weight.

Gradients and moments of the optimizer are sharded like their weights.
PyTorch's `fully_shard` gathers a block when it is used and frees it
afterwards, so no process ever holds the whole network. Checkpoints are those
of an unsharded model: states are gathered when they are written and sharded
when they are read.

`torch.distributed.checkpoint.state_dict` cannot do this here: its functions
call `state_dict` themselves, so they cannot be hooks on it, and the host's
Runner calls nothing else; and they name moments where our files number them.
"""
import re
from collections import Counter
from functools import partial
from itertools import chain

import torch
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils import serialization

from mmfd.errors import Refused
from mmfd.hosts.lookup import check_methods
from mmfd.registry import MODEL_WRAPPERS, with_teachers
from mmfd.teacher import teachers_in
from mmfd.weights.meta_device import weightless

# Names of the blocks of ViTs, ResNets, ConvNeXts and Swins
BLOCKS = r'(layers|layer\d+|stages\.\d+(\.blocks)?)\.\d+'


def sharding_units(network, pattern):
    """The modules of a backbone whose weights are gathered together.

    Args:
        network (nn.Module): the backbone.
        pattern (str): regular expression that the full name of a block
            matches.

    Returns:
        list[nn.Module]: first the modules that several blocks share, then the
        blocks.

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
    uses = Counter(module for block in blocks for module in block.modules())
    shared = [module for module in uses if uses[module] > 1]
    inner = {child for module in shared for child in [*module.modules()][1:]}
    return [
        module for module in shared
        if module not in inner and any(True for _ in module.parameters())
    ] + blocks


@MODEL_WRAPPERS.register_module()
class FullySharded(nn.Module):
    """Shard a model over all processes, block by block.

    The first process has initialised or read all weights and sends them to
    the others, which may have none yet. What is in no block, such as patch
    embedding, neck and head, forms one more unit, gathered from forward to
    backward. `mmfd.Teacher` hides its backbone from its parent, so it is
    sharded by itself; each of its blocks is freed after its forward.

    The state dict is that of the unsharded model, complete in the first
    process and without memory (on the meta device) in the others; all
    processes must ask for it together. `load_state_dict` takes complete
    weights. Blocks may share a module, but different modules must not share
    a weight.

    Args:
        module (nn.Module): with a `backbone`, maybe with a `teacher`; or such
            a model within a `BaseTTAModel`.
        blocks (str): regular expression; the modules of a backbone whose full
            name matches it are gathered one by one.
        shard_teacher (bool): False keeps the complete teacher in every
            process, which saves the time of gathering it.
        param_dtype (str): `bfloat16` gathers weights in half the size and
            computes under autocast, evaluations too. Shards, moments, and
            gradients summed over processes stay fp32.

    Raises:
        Refused: if a backbone has no blocks, or two modules share a weight.
    """

    def __init__(self,
                 module,
                 blocks=BLOCKS,
                 shard_teacher=True,
                 param_dtype=None):
        super().__init__()
        self.module = module
        if isinstance(module, BaseTTAModel):  # it calls the model's forward
            module = module.module
        _refuse_tied(module)
        device = torch.device(get_device()).type
        dtype = param_dtype and getattr(torch, param_dtype)
        shard = partial(
            fully_shard,
            mesh=init_device_mesh(device, (get_world_size(), )),
            mp_policy=MixedPrecisionPolicy(
                dtype, reduce_dtype=torch.float32,
                cast_forward_inputs=False))  # pixels need more than bf16
        values = _tensors(module)
        module.to('meta')
        for unit in sharding_units(module.backbone, blocks):
            shard(unit)
        shard(module)
        if shard_teacher:
            for network in teacher_backbones(module):
                for unit in (*sharding_units(network, blocks), network):
                    shard(unit)
        module.to_empty(device=device)
        for tensor, value in zip(_tensors(module), values):
            _receive(tensor, value)
        module.to(get_device())  # also tells the preprocessor its device
        module.register_state_dict_post_hook(_gather_weights)
        for part in module.modules():
            part.register_load_state_dict_pre_hook(_shard_weights)
        if dtype:  # for what meets the weights: buffers, norms, the loss
            module.forward = torch.autocast(device, dtype)(module.forward)

    def train_step(self, data, optim_wrapper):
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data):
        return self.module.val_step(data)

    def test_step(self, data):
        return self.module.test_step(data)

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


class ShardedRunner(Runner):
    """The host's Runner; all processes take part when weights are handled.

    The first process builds the model in the memory of its machine,
    initialises the student and reads the teacher; the others build it
    without weights. So the first machine needs memory for one complete
    student and teacher, and no GPU ever holds one.
    """

    def build_model(self, model):
        check_methods(Runner, '_init_model_weights')
        if is_main_process():
            model = super().build_model(model)
            model.init_weights()
            return model
        with weightless():  # the first process reads the teachers' files
            return super().build_model(
                with_teachers(model, lambda t: dict(t, checkpoint='random')))

    def wrap_model(self, model_wrapper_cfg, model):
        return MODEL_WRAPPERS.build(
            model_wrapper_cfg, default_args=dict(module=model))

    def _init_model_weights(self):
        """Nothing: `build_model` has done it."""

    def build_optim_wrapper(self, optim_wrapper):
        built = super().build_optim_wrapper(optim_wrapper)
        if built is not optim_wrapper:
            built.optimizer.register_state_dict_post_hook(_gather_moments)
            built.optimizer.register_load_state_dict_pre_hook(_shard_moments)
        return built

    def save_checkpoint(self, *args, save_optimizer=True, **kwargs):
        """The first process writes, the others contribute their shards."""
        super().save_checkpoint(*args, save_optimizer=save_optimizer, **kwargs)
        if not is_main_process():  # where the host's method does nothing
            self.model.module.state_dict()
            if save_optimizer:
                self.optim_wrapper.state_dict()

    def load_checkpoint(self, filename, *args, **kwargs):
        """Each process maps the file and reads its shards from the map."""
        with serialization.config.patch('load.mmap', True):
            return super().load_checkpoint(filename, *args, **kwargs)

    def resume(self, filename, *args, **kwargs):
        kwargs['map_location'] = 'cpu'  # a complete state fits in no GPU
        super().resume(filename, *args, **kwargs)


def teacher_backbones(model):
    """A list of the backbones that `mmfd.Teacher` hides."""
    return [teacher.backbone for teacher in teachers_in(model)]


def _refuse_tied(model):
    """Sharding, as any move to another device, would untie tied weights."""
    names_of = {}
    for network in (model, *teacher_backbones(model)):
        for prefix, module in network.named_modules():
            for name, param in module.named_parameters(recurse=False):
                names_of.setdefault(param, []).append(f'{prefix}.{name}')
    for names in names_of.values():
        if len(names) > 1:
            raise Refused(
                f'{" and ".join(names)} are one weight, which cannot be '
                'sharded: give each its own, or train without '
                'model_wrapper_cfg')


def _tensors(model):
    """All parameters and buffers, in the same order in every process."""
    return [
        tensor for network in (model, *teacher_backbones(model))
        for tensor in chain(network.parameters(), network.buffers())
    ]


@torch.no_grad()
def _receive(tensor, value):
    """Fill `tensor`, or this process's shard, with the first's `value`."""
    if get_rank() == 0:
        value = value.detach().to(tensor.device)
    else:
        value = torch.empty_like(value, device=tensor.device)
    distributed.broadcast(value, src=0)
    tensor.copy_(_shard(value, tensor))


def _shard(value, like):
    """This process's part of `value`, if `like` is sharded."""
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(
        value, like.device_mesh, like.placements, src_data_rank=None)


def _gather(value):
    """The complete tensor in the first process; all have to call it."""
    if not isinstance(value, DTensor):
        return value
    full = value.full_tensor()
    return full.cpu() if is_main_process() else full.to('meta')


def _gather_weights(module, state_dict, prefix, metadata):
    for name, value in state_dict.items():
        state_dict[name] = _gather(value.detach())


def _shard_weights(module, state_dict, prefix, *_):
    for name, param in module.named_parameters(recurse=False):
        value = state_dict.get(prefix + name)
        if value is not None and value.shape == param.shape:
            state_dict[prefix + name] = _shard(value, param)


def _gather_moments(optimizer, state_dict):
    state = {
        index: {
            name: _gather(value)
            for name, value in moments.items()
        }
        for index, moments in state_dict['state'].items()
    }
    return dict(state_dict, state=state)


def _shard_moments(optimizer, state_dict):
    numbers = _params(state_dict['param_groups'])
    params = dict(zip(numbers, _params(optimizer.param_groups)))
    state = {
        number: {
            name:
            _shard(value, params[number])
            if value.shape == params[number].shape else value
            for name, value in moments.items()
        }
        for number, moments in state_dict['state'].items()
    }
    return dict(state_dict, state=state)


def _params(groups):
    return [param for group in groups for param in group['params']]
