"""The forward of a frozen network: fused windows, packed weights."""
from contextlib import nullcontext
from functools import partial

from mmfd.fast.attention import attend_windows
from mmfd.fast.packed_weights import PackedWeights
from mmfd.hosts import openmmlab


class FrozenForward:
    """Call a frozen network, faster than a normal call would be.

    Args:
        network (nn.Module): in eval mode, without gradients. The window
            attention of Swin V1 in it is replaced by a fused one.
    """

    def __init__(self, network):
        for module in network.modules():
            if openmmlab.is_window_attention(module):
                module.forward = partial(attend_windows, module)
        self.network = network
        self.weights_replaced()

    def __call__(self, x):
        with self.packed if x.device.type == 'cpu' else nullcontext():
            return self.network(x)

    def weights_replaced(self):
        """Forget all copies: the network's weights are now other tensors."""
        self.packed = PackedWeights(self.network)

    def copies(self):
        """The copies of weights that calls have made for later ones."""
        return [copy for _, copy in self.packed.copies.values()]
