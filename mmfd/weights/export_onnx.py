"""A student as an ONNX file, checked against ONNX Runtime."""
import contextlib
import io
import logging
import warnings

import torch
from torch import nn

from mmfd import files
from mmfd.errors import Refused
from mmfd.hosts.lookup import find

LIBRARIES = 'onnx', 'onnxruntime', 'onnxscript'
TOLERANCE = 1e-4  # of the largest feature
LARGEST = 2**31  # bytes of one file: protobuf's limit
IMAGES, FEATURES = 'images', 'features'


class LastFeature(nn.Module):
    """Normalised images (B, 3, H, W) to a backbone's last tokens or map."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, images):
        return self.backbone(images)[-1]


def save(backbone, img_size, path, meta):
    """Write a network for images of one size, and compare what it computes.

    Batches may be of any size, unless a network cuts images into windows by
    their number, as mmpretrain's Swins do; then they are of one image.

    Args:
        backbone (nn.Module): of a `LoadedStudent`.
        img_size (tuple): (H, W).
        path (Path): ends in `.onnx`.
        meta (dict): name -> text, for the metadata of the file.

    Returns:
        tuple: shape of the input and of the output, of numbers and names;
        largest difference, as a share of the largest feature.

    Raises:
        Refused: if a library is missing, the network is too large or cannot
            be exported, or ONNX Runtime computes something else.
    """
    missing = [name for name in LIBRARIES if find(name) is None]
    if missing:
        raise Refused(f'--to onnx needs {", ".join(missing)}: pip install '
                      f'{" ".join(missing)}')
    network = LastFeature(backbone)
    network.eval()
    size = sum(t.nbytes for t in network.state_dict().values())
    if size >= LARGEST:
        raise Refused(f'its weights take {size:,} bytes, and an ONNX file '
                      f'holds at most {LARGEST:,}: export it --to backbone')
    program = _program(network, img_size)
    program.model.metadata_props.update({
        name: str(value)
        for name, value in meta.items()
    })
    with files.output_file(path) as file:
        program.save(file, external_data=False)
        difference = _difference(network, file, program, img_size)
        if not difference <= TOLERANCE:
            raise Refused(
                f'ONNX Runtime computes other features than PyTorch: they '
                f'differ by {difference:.1e} of the largest, and {TOLERANCE} '
                'is allowed. Nothing was written')
    return (*(_shape(value)
              for value in (program.model.graph.inputs[0],
                            program.model.graph.outputs[0])), difference)


def _program(network, img_size):
    """torch.onnx's program, for any number of images or for one."""
    causes = []
    for batch, dynamic in (2, {0: torch.export.Dim.DYNAMIC}), (1, None):
        try:
            with torch.no_grad(), _quiet():
                return torch.onnx.export(
                    network, (torch.zeros(batch, 3, *img_size), ),
                    dynamo=True,
                    input_names=[IMAGES],
                    output_names=[FEATURES],
                    dynamic_shapes=dynamic and (dynamic, ),
                    verbose=False)
        except Exception as error:  # a network may do what no graph can
            causes.append(error.__cause__ or error)
    raise Refused(f'PyTorch cannot export {type(network.backbone).__name__} '
                  f'to ONNX: {type(causes[-1]).__name__}: {causes[-1]}')


@contextlib.contextmanager
def _quiet():
    """PyTorch reports every step, and what it tries in vain as an error."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        logging.disable()
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _difference(network, file, program, img_size):
    """The largest one, as a share of the largest feature."""
    batch = program.model.graph.inputs[0].shape[0]
    images = torch.randn(batch if isinstance(batch, int) else 3, 3, *img_size)
    with torch.no_grad():
        expected = network(images)
    session = find('onnxruntime').InferenceSession(
        str(file), providers=['CPUExecutionProvider'])
    features, = session.run(None, {IMAGES: images.numpy()})
    difference = (torch.from_numpy(features) - expected).abs().max()
    return (difference / expected.abs().max()).item()


def snippet(path, img_size):
    """The program that computes features with the file."""
    shape = 1, 3, *img_size
    return ('import numpy\nimport onnxruntime\n\n'
            f"images = numpy.zeros({shape}, 'float32')  # normalised\n"
            f'session = onnxruntime.InferenceSession({str(path)!r})\n'
            f'{FEATURES}, = session.run(None, dict({IMAGES}={IMAGES}))')


def _shape(value):
    return tuple(
        side if isinstance(side, int) else 'batch' for side in value.shape)
