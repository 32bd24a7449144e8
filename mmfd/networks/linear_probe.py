"""The linear probe: a linear classifier on a frozen backbone."""
from mmpretrain.models import ImageClassifier

from mmfd.registry import MODELS


@MODELS.register_module()
class LinearProbe(ImageClassifier):
    """A classifier whose backbone is frozen; neck and head learn.

    Official file `main_linear.py`. The backbone has no gradients, so it is in
    no optimizer group. It stays in eval mode, so its drop path is off whatever
    its config says; in the official code it is off only if the options say so.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.backbone.requires_grad_(False)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self
