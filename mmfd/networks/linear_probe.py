"""The linear probe: a linear classifier on a frozen backbone."""
from mmpretrain.models import ImageClassifier

from mmfd.registry import MODELS, build_part, check_config


@MODELS.register_module()
class LinearProbe(ImageClassifier):
    """A classifier whose backbone is frozen; neck and head learn.

    Official file `main_linear.py`. The backbone has no gradients, so it is in
    no optimizer group. It stays in eval mode, so its drop path is off whatever
    its config says; in the official code it is off only if the options say so.
    """

    def __init__(self,
                 backbone,
                 neck=None,
                 head=None,
                 data_preprocessor=None,
                 **kwargs):
        backbone = build_part('model.backbone', backbone, 'backbone')
        if neck is not None:
            neck = build_part('model.neck', neck, 'classifier_neck')
        if head is not None:
            head = build_part('model.head', head, 'classifier_head')
        if data_preprocessor and 'type' in data_preprocessor:
            check_config('model.data_preprocessor', data_preprocessor,
                         'classifier_preprocessor')
        super().__init__(
            backbone,
            neck,
            head,
            data_preprocessor=data_preprocessor,
            **kwargs)
        self.backbone.requires_grad_(False)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self
