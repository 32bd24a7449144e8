"""The blocks that a network repeats, and how deep a weight lies in it."""
from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList)


def blocks(backbone):
    """The blocks that a network repeats: name -> module, in their order.

    These are members of its innermost lists of modules, if they have modules
    of their own: the blocks of a ViT, of the stages of a Swin or a ConvNeXt,
    but not the linear layers of their MLPs.
    """
    members = {
        f'{name}.{key}' if name else key: member
        for name, module in backbone.named_modules()
        if isinstance(module, CONTAINERS)
        for key, member in module.named_children() if _may_be_block(member)
    }
    return {
        name: member
        for name, member in members.items()
        if not any(other.startswith(name + '.') for other in members)
    }


def _may_be_block(module):
    has_modules = any(True for _ in module.children())
    return has_modules and not isinstance(module, CONTAINERS)


def layer_depths(network):
    """How deep each parameter lies: its name -> depth, and L + 2.

    Depths are those of layer decay: 0 before the first of L blocks, i in the
    i-th and between it and the next, L + 1 behind the last.
    """
    names, depths, begun = [*blocks(network)], {}, 0
    for name, _ in network.named_parameters():
        inside = next((i for i, block in enumerate(names, 1)
                       if name.startswith(f'{block}.')), None)
        begun = max(begun, inside or 0)
        behind = begun == len(names) and inside is None
        depths[name] = len(names) + 1 if behind else inside or begun
    return depths, len(names) + 2
