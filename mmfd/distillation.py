"""Feature Distillation, the method (Wei et al., arXiv 2205.14141, sec. 3).

    pixels (B, 3, H, W) RGB 0-255
      |-- student statistics --> backbone --> neck: project --> (B, L, C) --+
      |                                                      head: loss <--+
      '-- teacher statistics --> backbone --> neck: whiten  --> (B, L, C) --+

A frozen teacher and a student look at the same pixels, each in its own
statistics; the student learns the teacher's whitened tokens.

Letters, here and everywhere: B batch, L tokens (cls first, where there is
one), C channels, H heads, (h, w) grid.
"""
from mmpretrain.models import BaseSelfSupervisor

from mmfd.registry import MODELS


@MODELS.register_module()
class FeatureDistillation(BaseSelfSupervisor):
    """Teach `backbone` the whitened tokens of `teacher`.

    Args:
        teacher (dict): config of `mmfd.Teacher`.
        normalize (dict): config of `mmfd.Normalize`, the student's statistics.
        backbone (dict): the student, any registered backbone that returns
            tokens. It keeps this name so that every OpenMMLab library loads
            it with `prefix='backbone.'`.
        neck (dict): the student's way to the teacher's width.
        head (dict): config of `mmfd.DistillationHead`.
        data_preprocessor (dict): config of `mmfd.PixelPreprocessor`.
    """

    def __init__(self, teacher, normalize, backbone, neck, head,
                 data_preprocessor):
        super().__init__(
            backbone, neck, head, data_preprocessor=data_preprocessor)
        self.teacher = MODELS.build(teacher)
        self.normalize = MODELS.build(normalize)

    def extract_feat(self, pixels):
        """The student's features, as its backbone returns them."""
        return self.backbone(self.normalize(pixels))

    def loss(self, pixels, data_samples=None):
        """The training loss of a batch of pixels (B, 3, H, W), RGB 0-255."""
        target = self.teacher(pixels)  # (B, L, C), no gradient
        pred = self.neck(self.extract_feat(pixels))  # (B, L, C)
        return self.head.loss(pred, target)

    def predict(self, pixels, data_samples):
        """Write `loss` and `feature`, (C, ), into each sample."""
        target = self.teacher(pixels)
        feats = self.extract_feat(pixels)
        pred, last = self.neck(feats), feats[-1]
        pooled = last.mean(1) if last.ndim == 3 else last.mean((2, 3))
        for i, sample in enumerate(data_samples):
            one = slice(i, i + 1)
            sample.loss = self.head.loss(pred[one], target[one])['loss']
            sample.feature = pooled[i]
        return data_samples

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """As the host's; `mode='predict'` judges held-out images."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)
