"""Where the two sides meet: the loss, and the checks that make it mean it."""
from mmengine.model import BaseModule

from mmfd.registry import MODELS


@MODELS.register_module()
class DistillationHead(BaseModule):
    """Compare the student's tokens with the teacher's, all with equal weight.

    Args:
        loss (dict): config of any module `loss(pred, target)` that gives a
            scalar. FD's is `torch.nn.SmoothL1Loss` with beta 2.
    """

    def __init__(self, loss):
        super().__init__()
        self.criterion = MODELS.build(loss)

    def loss(self, pred, target):
        """The loss of `pred` against `target`, both (B, L, C), in fp32.

        Raises:
            ValueError: if the two do not have the same tokens or channels.
        """
        (_, s, width), (_, t, channels) = pred.shape, target.shape
        if s != t:
            raise ValueError(
                f'student gives {s} tokens, teacher {t}: set '
                'teacher.img_size (or backbone.img_size and the size of the '
                'crops) so that both grids agree, with a cls token on both '
                'sides or on neither')
        if width != channels:
            raise ValueError(
                f'the projection gives {width} channels, the teacher has '
                f'{channels}: set neck.out_channels={channels}')
        return dict(loss=self.criterion(pred.float(), target))
