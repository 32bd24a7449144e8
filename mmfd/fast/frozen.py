"""The forward of a frozen network: fused windows, packed weights."""
from contextlib import nullcontext
from functools import partial

from mmfd.fast import fixed_shapes
from mmfd.fast.attention import attend_windows
from mmfd.fast.packed_weights import PackedWeights
from mmfd.fast.unfold import unfold_at_once
from mmfd.hosts import openmmlab


class FrozenForward:
    """Call a frozen network, faster than a normal call would be.

    Args:
        network (nn.Module): in eval mode, without gradients. The window
            attention of Swin V1 in it is replaced by a fused one, and
            patches are merged at once.
    """

    def __init__(self, network):
        for module in network.modules():
            if openmmlab.is_window_attention(module):
                module.forward = partial(attend_windows, module)
        unfold_at_once(network)
        self.network = self.forward = network
        self.weights_replaced()

    def __call__(self, x):
        with self.packed if x.device.type == 'cpu' else nullcontext():
            return self.forward(x)

    def compile(self, options, trained):
        """Compile the forward for the images of a training step.

        Args:
            options (dict): arguments of `torch.compile`.
            trained (nn.Module): in training mode in a training step.
        """
        for module in filter(openmmlab.is_drop_path, self.network.modules()):
            module.drop_prob = float(module.drop_prob)  # NumPy's ends a graph
        self.forward = fixed_shapes.FixedShape(
            self.network, _call, fixed_shapes.compiled(_call, options),
            trained)

    def weights_replaced(self):
        """Forget all copies: the network's weights are now other tensors."""
        self.packed = PackedWeights(self.network)

    def copies(self):
        """The copies of weights that calls have made for later ones."""
        return [copy for _, copy in self.packed.copies.values()]


def _call(network, x):
    return network(x)
