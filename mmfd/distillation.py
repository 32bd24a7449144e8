"""Feature Distillation, the method (Wei et al., arXiv 2205.14141, sec. 3)::

    pixels (B, 3, H, W) RGB 0-255
      |-- student statistics --> backbone --> neck: project --> (B, L, C) --+
      |                                                      head: loss <--+
      '-- teacher statistics --> backbone --> neck: whiten  --> (B, L, C) --+

A frozen teacher and a student look at the same pixels, each normalised with
its own mean and standard deviation. The student learns to predict the
teacher's whitened tokens.

Letters for shapes, in all of mmfd: B batch, L tokens (a cls token comes first,
if there is one), C channels, H heads, (h, w) grid of patches.
"""
from mmpretrain.models import BaseSelfSupervisor

from mmfd.networks.token_layout import features_of
from mmfd.pixels import check_pixels
from mmfd.registry import MODELS, build_part, build_parts


class Distillation(BaseSelfSupervisor):
    """A student that sees pixels in its own statistics, and can be evaluated.

    Who teaches it, the class below says, and `mmfd.variants`.
    """

    def __init__(self, normalize, backbone, data_preprocessor, **parts):
        super().__init__(**build_parts(
            'model',
            data_preprocessor=data_preprocessor,
            backbone=backbone,
            **parts))
        self.normalize = build_part('model.normalize', normalize, 'normalize')

    def extract_feat(self, pixels):
        """The student's features, as its backbone returns them: a tuple."""
        feats = self.backbone(self.normalize(pixels))
        return features_of(self.backbone, feats, pixels.shape[-2:])

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """Dispatch as the host does, and `mode='predict'` to `predict`."""
        check_pixels(inputs)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)

    def predict(self, pixels, data_samples):
        """Evaluate images, and set of each sample what metrics need.

        `feature` (C, ) of the student, and what `evaluated` says of it.
        """
        feats = self.extract_feat(pixels)
        last = feats[-1]
        pooled = last.mean(1) if last.ndim == 3 else last.mean((2, 3))
        results = self.evaluated(pixels, feats)
        for sample, feature, result in zip(data_samples, pooled, results):
            sample.set_data(dict(result, feature=feature))
        return data_samples


@MODELS.register_module()
class FeatureDistillation(Distillation):
    """Teach `backbone` the whitened tokens of `teacher`.

    Args:
        teacher (dict): config of `mmfd.Teacher`.
        normalize (dict): config of `mmfd.Normalize`, the student's statistics.
        backbone (dict): the student: any registered backbone that returns
            tokens. It has this name because every OpenMMLab library can load
            it from a checkpoint with `prefix='backbone.'`.
        neck (dict): config of `mmfd.ProjectionNeck`, which takes the student's
            tokens to the teacher's width.
        head (dict): config of `mmfd.DistillationHead`.
        data_preprocessor (dict): config of `mmfd.PixelPreprocessor`.
    """

    def __init__(self, teacher, normalize, backbone, neck, head,
                 data_preprocessor):
        super().__init__(
            normalize, backbone, data_preprocessor, neck=neck, head=head)
        self.teacher = build_part('model.teacher', teacher, 'teacher')

    @property
    def branches(self):
        """What belongs to each teacher: here there is one, without a name."""
        return {'': self}

    def loss(self, pixels, data_samples=None):
        """The loss of a training batch, pixels (B, 3, H, W) RGB 0-255."""
        target = self.teacher(pixels)  # (B, L, C), no gradient
        pred = self.neck(self.extract_feat(pixels))  # (B, L, C)
        return self.head.loss(pred, target)

    def evaluated(self, pixels, feats):
        """Of each image: its loss, and how good the prediction is."""
        return self.head.evaluate(self.neck(feats), self.teacher(pixels))
