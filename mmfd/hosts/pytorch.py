"""What PyTorch does not promise to keep: each private call once.

Every function is named for what mmfd wants of it. Where PyTorch's own has
gone, it computes the same in a plain way, or Refused names the version.
"""
import inspect
import re
import signal
import threading
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from mmfd.hosts import versions
from mmfd.hosts.lookup import find

ATTENTION_ON_CPU = (
    'torch:ops.aten._scaled_dot_product_flash_attention_for_cpu')
ATTENTION_ON_CUDA = 'torch:ops.aten._scaled_dot_product_efficient_attention'
ROW = 8  # numbers to which that of CUDA wants the rows of a bias aligned


def attention_on_cpu(q, k, v, bias, scale):
    """softmax(scale q k^T + bias) v by the fused kernel of a CPU.

    The public function refuses a bias in fp32 for bf16 queries, and does not
    take its fused kernel where a bias needs a gradient. The plain way is that
    function in the dtype of the bias.

    Args:
        q, k, v (Tensor): (B, H, L, D), whose gradients are not recorded.
        bias (Tensor): (1, H, L, L), fp32 or as q.
        scale (float): of the products.

    Returns:
        Tensor: (B, H, L, D), as q.
    """
    fused = find(ATTENTION_ON_CPU)
    if fused is not None:
        return fused(q, k, v, attn_mask=bias, scale=scale)[0]
    exact = (x.to(bias.dtype) for x in (q, k, v))
    return F.scaled_dot_product_attention(
        *exact, attn_mask=bias, scale=scale).to(q.dtype)


def aligned_rows(bias):
    """A bias with rows that begin at multiples of `ROW`, as CUDA wants them.

    Args:
        bias (Tensor): (..., L), in which the last stride is 1.

    Returns:
        Tensor: (..., L + L'), of which the last L' columns are none of it.
    """
    return F.pad(bias, (0, -bias.shape[-1] % ROW))


def fuses_learnt_bias(device):
    """Whether fused attention has a gradient for a bias on a device."""
    return device.type != 'cpu' or _AsOnCuda.entered > 0


def attention_as_on_cuda():
    """Within it, attention is CUDA's fused kernel, wherever fake tensors are.

    On its own PyTorch asks the GPU which kernel it would take; without one it
    would take none that is fused.

    Raises:
        Refused: if PyTorch has no such kernel.
    """
    return _AsOnCuda(_needed(ATTENTION_ON_CUDA))


class _AsOnCuda(TorchFunctionMode):
    entered = 0

    def __init__(self, fused):
        super().__init__()
        self.fused = fused

    def __enter__(self):
        _AsOnCuda.entered += 1
        return super().__enter__()

    def __exit__(self, *error):
        _AsOnCuda.entered -= 1
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            return self.attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def attend(self,
               q,
               k,
               v,
               attn_mask=None,
               dropout_p=0.,
               is_causal=False,
               scale=None):
        bias = attn_mask
        if bias is not None:
            columns, bias = bias.shape[-1], bias.to(q.dtype)
            if any(stride % ROW for stride in bias.stride()[:-1]):
                bias = aligned_rows(bias)
            bias = bias[..., :columns].expand(*q.shape[:3], columns)
        keeps = torch.is_grad_enabled() and q.requires_grad
        return self.fused(
            q, k, v, bias, keeps, dropout_p, is_causal, scale=scale)[0]


def softmax_backward_(grad, weights):
    """Turn the gradient of a softmax into that of its input, in place.

    Args:
        grad, weights (Tensor): (..., L) of one dtype; `weights` is what the
            softmax gave, over the last dimension.
    """
    fused = find('torch:_softmax_backward_data')
    if fused is not None:
        fused(grad, weights, -1, grad.dtype, grad_input=grad)
    else:
        grad.sub_((grad * weights).sum(-1, keepdim=True)).mul_(weights)


def version_of(tensor):
    """How often a tensor was written to in place.

    Where PyTorch does not say, an object that equals nothing: the tensor may
    have changed since.
    """
    try:
        return tensor._version
    except AttributeError:
        return object()


def storage_of(tensor):
    """Which memory a tensor is a view of: the same for all of its views.

    Where PyTorch does not say, an object that equals nothing.
    """
    try:
        return tensor.untyped_storage()._cdata
    except AttributeError:
        return object()


def saved_tensors_hooks_in_force():
    """The (pack, unpack) that autograd now gives what it saves to, or None.

    Where PyTorch does not say, (None, None): there may be some.
    """
    innermost = find('torch:_C._autograd._top_saved_tensors_default_hooks')
    return (None, None) if innermost is None else innermost(False)


def cpu_multiplies_bf16():
    """Whether oneDNN has matrix products in bf16 on this CPU."""
    ask = find('torch:ops.mkldnn._is_mkldnn_bf16_supported')
    if ask is not None:
        return ask()
    ask = find('torch.cpu:get_capabilities')
    can = ask(
    ) if ask is not None and torch.backends.mkldnn.is_available() else {}
    return can.get('bf16', False) or all(  # of an ARM; of an x86
        can.get(f'avx512_{part}', False) for part in ('f', 'bw', 'vl', 'dq'))


def can_pack(dtype):
    """Whether oneDNN multiplies by packed weights of a dtype on this CPU."""
    if not torch.backends.mkldnn.is_available() or None in (
            find('torch:ops.mkldnn._reorder_linear_weight'),
            find('torch:ops.mkldnn._linear_pointwise')):
        return False
    return dtype is torch.float32 or (dtype is torch.bfloat16
                                      and cpu_multiplies_bf16())


def pack(weight):
    """A copy of the weight of a linear layer in oneDNN's own layout.

    Args:
        weight (Tensor): (C', C) on the CPU, of a dtype that `can_pack`.
    """
    return find('torch:ops.mkldnn._reorder_linear_weight')(weight)


def packed_linear(x, packed, bias, gelu):
    """`F.linear` by a weight that `pack` gave, and a GELU of it if asked for.

    Args:
        x (Tensor): (..., C).
        packed (Tensor): (C', C).
        bias (Tensor): (C', ), or None.
        gelu (bool): the exact one.
    """
    return find('torch:ops.mkldnn._linear_pointwise')(
        x, packed, bias, 'gelu' if gelu else 'none', [], 'none')


def compiled_anew():
    """Within it the compiler uses nothing that it has stored.

    Where PyTorch has no such switch, it may.
    """
    patch = find('torch._inductor.config:patch')
    return nullcontext() if patch is None else patch(force_disable_caches=True)


def infinite_gradients(optimizer):
    """What a GradScaler tells a fused optimizer in its step, None elsewhere.

    Returns:
        Tensor: (), not 0 if a gradient is infinite or no number, and the step
        changes nothing.
    """
    return getattr(optimizer, 'found_inf', None)


def fake_tensors():
    """Within it tensors are made that have shapes and devices, but no memory.

    Raises:
        Refused: if PyTorch has none.
    """
    return _needed('torch._subclasses.fake_tensor:FakeTensorMode')(
        allow_non_fake_inputs=True)


def real_tensors():
    """Within it tensors have memory, whether or not `fake_tensors` is on."""
    leave = find('torch._subclasses.fake_tensor:unset_fake_temporarily')
    return nullcontext() if leave is None else leave()


def every_operation(see):
    """Within it, call `see` after each operation, those of autograd included.

    Args:
        see (callable): takes the operation, its args and kwargs, and what it
            gave.

    Raises:
        Refused: if PyTorch cannot be watched.
    """
    mode = _needed('torch.utils._python_dispatch:TorchDispatchMode')
    return _watch(mode)(see)


@cache
def _watch(mode):

    class Watch(mode):

        def __init__(self, see):
            super().__init__()
            self.see = see

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            self.see(func, args, kwargs or {}, out)
            return out

    return Watch


def flops_of(func, args, kwargs, out):
    """Floating-point operations of what `every_operation` has seen.

    Those of matrix products, attention and convolutions; others are 0.

    Raises:
        Refused: if PyTorch has no list of them.
    """
    formulas = _needed('torch.utils.flop_counter:flop_registry')
    if func.overloadpacket is find(ATTENTION_ON_CPU):  # not in the list
        q, k, v = (tensor.shape for tensor in args[:3])
        pairs = q[0] * q[1] * q[2] * k[2]  # B H L L
        return 2 * pairs * (q[3] + v[3])
    formula = formulas.get(func.overloadpacket)
    return formula(*args, **kwargs, out_val=out) if formula else 0


def is_cast(func):
    """Whether an operation copies a tensor to another dtype or device."""
    return func is find('torch:ops.aten._to_copy.default')


@contextmanager
def autocast_anywhere(device, dtype):
    """`torch.autocast`, which would turn itself off where the device is not.

    Args:
        device (str): `cpu` or `cuda`, there or not.
        dtype (torch.dtype): None means no autocast.
    """
    if dtype is None:
        yield
        return
    torch.set_autocast_dtype(device, dtype)
    torch.set_autocast_enabled(device, True)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, False)


def _needed(name):
    """The object of a name; Refused where PyTorch has none of that name."""
    there = find(name)
    if there is None:
        raise versions.lacks('torch', name)
    return there


def timeout_of(error):
    """Seconds until the wait for a process timed out; None for other errors.

    Args:
        error (RuntimeError): of torch.distributed, which has no class or
            number for it, but a text.
    """
    waited = re.search(r'Timed out waiting (\d+)ms', str(error))
    return int(waited[1]) / 1000 if waited else None


def dead_worker(error):
    """Which worker of a DataLoader ended by itself, as PyTorch says it: text.

    Args:
        error (RuntimeError): None is returned for other ones.
    """
    found = re.search(r'DataLoader worker \(pid.*', str(error))
    return found and found[0].strip(' .')


def forget_workers():
    """Let PyTorch raise no more errors for workers of a DataLoader that end.

    Its handler of SIGCHLD raises them wherever the process is just then, so
    also amid the report of an error that the same worker's end has caused.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(
            signal, 'SIGCHLD'):  # not on Windows
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def port_in_use(error):
    """Whether a network error of torch.distributed is of a port in use."""
    return 'EADDRINUSE' in str(error)


def launch_config(**kwargs):
    """torch.distributed.launcher's LaunchConfig; SIGUSR1 is passed on too.

    Versions that pass on fixed signals pass on theirs.
    """
    config = _needed('torch.distributed.launcher.api:LaunchConfig')
    if 'signals_to_handle' in inspect.signature(config).parameters:
        kwargs['signals_to_handle'] = 'SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1'
    return config(**kwargs)


def message_of(error):
    """What an exception says, wherever it was raised.

    A DataLoader raises one of its workers again with the traceback from there
    as the beginning of its message.
    """
    cls = type(error)
    return str(error).strip().rpartition(
        f'{cls.__module__}.{cls.__qualname__}: ')[2]


def shape_mismatches(error):
    """What a state dict and a module disagree on.

    Args:
        error (RuntimeError): of `load_state_dict`.

    Returns:
        list: (name, shape in the state dict, shape in the module), as text;
        empty if the error does not tell.
    """
    return re.findall(
        r'size mismatch for (\S+): copying a param with shape '
        r'torch\.Size\((.*?)\) from checkpoint, the shape in current model '
        r'is torch\.Size\((.*?)\)', str(error))


def module_versions(state_dict):
    """Which version of its class each module of a state dict has.

    Returns:
        dict: name of the module -> facts; empty where nothing is said.
    """
    return getattr(state_dict, '_metadata', {})


def set_module_versions(state_dict, versions):
    """Note them in a state dict, where `load_state_dict` looks for them.

    Args:
        state_dict (OrderedDict): changed in place.
        versions (dict): name of the module -> facts.
    """
    state_dict._metadata = versions
