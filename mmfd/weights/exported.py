"""What an export writes, and the Python that loads it."""
from typing import Callable, NamedTuple

IMPORTS = {'mmengine': 'mmengine.registry'}  # library -> its module, if other
READERS = {  # suffix -> module, and the expression for the weights in a file
    '.pth': ('torch', "torch.load({!r}, weights_only=True)['state_dict']"),
    '.safetensors': ('safetensors.torch', 'safetensors.torch.load_file({!r})'),
}


def load_state_dict(built, path, weights):
    """Build the network, then load its weights."""
    return f'model = {built}\nmodel.load_state_dict({weights})'


class Exported(NamedTuple):
    """What there is to write of a student.

    Attributes:
        weights: name -> tensor, in the names of the library.
        config: arguments of the network that the weights fit.
        python: the expression that builds it, with `{}` for the arguments;
            empty if its config is needed for that.
        loading: from this expression, the path and the expression for the
            weights in the file to the lines that make `model`.
    """
    weights: dict
    config: dict
    python: str
    loading: Callable = load_state_dict

    @property
    def built(self):
        """The expression that builds the network."""
        arguments = (f'{k}={v!r}' for k, v in self.config.items())
        return self.python.format(', '.join(arguments))

    def snippet(self, path):
        """The program that loads what was written into `model`.

        Args:
            path (Path): file, or a folder of Hugging Face.
        """
        module, reader = READERS.get(path.suffix, ('', ''))
        lines = self.loading(self.built, str(path), reader.format(str(path)))
        library = self.built.partition('.')[0]
        modules = [IMPORTS.get(library, library), module, 'torch']
        imports = {f'import {m}\n' for m in modules if m and f'{m}.' in lines}
        return ''.join(sorted(imports)) + '\n' + lines
