"""Functions compiled for the shapes of a training step alone."""
import torch


class FixedShape:
    """Call a module's function compiled, with the shape of the first step.

    Tokens or images of any other shape, as in an epoch's last batch, and those
    of an evaluation go to the plain function: to compile it for each of them
    takes minutes.

    Args:
        module (nn.Module): first argument of the functions.
        plain (callable): takes it, a tensor, and what else there is.
        compiled (callable): the same, as `compiled` makes it.
        trained (nn.Module): in training mode in a training step; None is
            `module`.
    """

    def __init__(self, module, plain, compiled, trained=None):
        self.module, self.trained = module, trained or module
        self.plain, self.compiled, self.shape = plain, compiled, None

    def __call__(self, x, *args):
        if not self.trained.training:
            return self.plain(self.module, x, *args)
        self.shape = self.shape or x.shape
        fits = x.shape == self.shape
        return (self.compiled if fits else self.plain)(self.module, x, *args)


def compiled(function, options):
    """Compile a function for the shapes that it is called with.

    Args:
        options (dict): arguments of `torch.compile`.
    """
    return torch.compile(function, **dict(dict(dynamic=False), **options))
