"""What PyTorch does not promise to say of tensors, states and processes.

Where it does not, the answer is always safe, or Refused names the version.
"""
import inspect
from contextlib import nullcontext

from torch import nn

from mmfd.hosts.lookup import find, needed


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


def infinite_gradients(optimizer):
    """What a GradScaler tells a fused optimizer in its step, None elsewhere.

    Returns:
        Tensor: (), not 0 if a gradient is infinite or no number, and the step
        changes nothing.
    """
    return getattr(optimizer, 'found_inf', None)


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


def odd_names(names):
    """Those of some names that no part of a module, or its weights, can have.

    Which are no identifiers, or which a module uses itself: `keys`, `training`
    and the like, of which each version of PyTorch has others.

    Returns:
        list
    """
    module = nn.ModuleDict()
    return [
        name for name in names
        if not str(name).isidentifier() or hasattr(module, name)
    ]


def compiled_anew():
    """Within it the compiler uses nothing that it has stored.

    Where PyTorch has no such switch, it may.
    """
    patch = find('torch._inductor.config:patch')
    return nullcontext() if patch is None else patch(force_disable_caches=True)


def launch_config(**kwargs):
    """torch.distributed.launcher's LaunchConfig; SIGUSR1 is passed on too.

    Versions that pass on fixed signals pass on theirs.
    """
    config = needed('torch.distributed.launcher.api:LaunchConfig')
    if 'signals_to_handle' in inspect.signature(config).parameters:
        kwargs['signals_to_handle'] = 'SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1'
    return config(**kwargs)
