"""A student in hand: a network that sees pixels, with what is known of it."""
import dataclasses
import json
import os

from mmengine.registry import MODELS
from torch import nn

from mmfd.errors import Refused
from mmfd.necks import TokenSelector
from mmfd.networks import mmpretrain_networks
from mmfd.networks.library_network import LibraryNetwork, pair
from mmfd.networks.token_layout import features_of
from mmfd.recipes import runs, target_features
from mmfd.weights import checkpoints, loaded_student, provenance, weight_files
from mmfd.weights.carried_config import carried_config, config_to_carry
from mmfd.weights.export import export

FILE = weight_files.STUDENT


class Student(nn.Module):
    """A network with its own normalisation.

    Args:
        backbone (nn.Module): any that returns tokens or a map.
        normalize (nn.Module): `mmfd.Normalize`.
        facts (Facts): of the backbone, as it was distilled.
        config (dict): of the backbone.
        prefix (str): of the names of its weights, in the file they are from.
        history (list[dict]): what its run logged, as `runs.history`.
        targets (dict[str, TargetFeatures]): by the names of its teachers.
    """

    def __init__(self,
                 backbone,
                 normalize,
                 facts,
                 config,
                 prefix='',
                 history=(),
                 targets=None):
        super().__init__()
        self.backbone = backbone
        self.normalize = normalize
        self.facts = facts
        self.config = config
        self.prefix = prefix
        self.history = [*history]
        self.targets = nn.ModuleDict(targets or {})
        self.select_tokens = TokenSelector('', 'all', grid=None)
        self.eval()

    def forward(self, pixels):
        """The student's tokens.

        Args:
            pixels (Tensor): (B, 3, H, W), RGB 0-255, uint8 or float, of the
                size `facts.img_size`.

        Returns:
            Tensor: (B, L, C): `facts.cls` cls tokens first, if there are any,
            then the map, row by row. Registers are left out.

        Raises:
            Refused: for pixels of another shape, or of a size that the
                network does not take.
        """
        return self.select_tokens(self._features(pixels))

    tokens = forward

    def target_features(self, pixels, teacher=None):
        """The features of a teacher, as the student predicts them.

        Args:
            pixels (Tensor): as `forward` takes them.
            teacher (str): the name of its branch, where there are several.

        Returns:
            Tensor: (B, L, C) in fp32: the tokens and the channels that the
            teacher's neck selected, before they were normalised. Of
            `layer_norm` and `l2` there is no inverse, and this is what they
            left of each token, its direction: `targets[NAME].describe()`
            says which of the two it is.

        Raises:
            Refused: if the file has no projection, or none of this name.
        """
        if not self.targets:
            raise Refused("this student came without the projection to its "
                          "teacher's features: load a checkpoint of its run, "
                          'or a file of mmfd distill or of mmfd export '
                          '--with-projection')
        if teacher is None and len(self.targets) == 1:
            teacher, = self.targets
        if teacher not in self.targets:
            raise Refused(f'target_features of teacher={teacher!r}: expected '
                          f'one of {", ".join(map(repr, self.targets))}')
        return self.targets[teacher](self._features(pixels))

    def _features(self, pixels):
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise Refused(f'pixels {tuple(pixels.shape)}: expected is a batch '
                          'of RGB images, (B, 3, H, W)')
        feats = self.backbone(self.normalize(pixels.float()))
        return features_of(self.backbone, feats, pixels.shape[-2:])


def save_student(checkpoint, model, img_size, path):
    """Write the student of a checkpoint, with all that builds it again.

    Projections go along, where targets can be predicted by them.

    Args:
        checkpoint (str): of the run.
        model (dict): the config of its model.
        img_size (tuple[int]): (H, W) of the images it was distilled on.
        path (str): of the file to write.
    """
    exported = export(checkpoint, model, 'backbone')
    weights, parts = target_features.with_projections(exported.weights,
                                                      checkpoint, model)
    meta = dict(
        provenance.of_file(checkpoint),
        model=config_to_carry(model, exported.config, parts),
        img_size=json.dumps(img_size))
    checkpoints.save(weights, path, meta)


def load_student(path):
    """The student of a file, or of the folder of its run.

    Args:
        path (str): file of `mmfd distill` or `mmfd export`, a checkpoint, or
            a folder of `mmfd distill`.

    Returns:
        Student: its `history` is that of its run, if `path` is a folder.

    Raises:
        Refused: if there is no student there, or the file does not say how to
            build it.
    """
    file = student_file(path)
    model = carried_config(file, to_build=True)
    statistics = provenance.statistics(meta := checkpoints.meta(file))
    if not statistics:
        raise Refused(f'{file} does not say with which mean and standard '
                      'deviation its student sees images: give a file of '
                      'mmfd distill or mmfd export')
    student = loaded_student.load_student(file, model)
    facts = facts_of(student, str(file), statistics)
    if size := provenance.img_size(meta):
        facts = dataclasses.replace(facts, img_size=size)
    normalize = MODELS.build(dict(statistics, type='mmfd.Normalize'))
    lines = runs.history(path) if os.path.isdir(path) else ()
    return Student(student.backbone, normalize, facts, student.config,
                   student.prefix, lines, target_features.load(file, model))


def student_file(path):
    """The file of a student, which may be given as the folder of its run.

    Raises:
        Refused: for a folder that has neither.
    """
    return runs.file_in(path, FILE, 'mmfd distill')


def facts_of(student, name, statistics):
    """The `Facts` of a `LoadedStudent`.

    Args:
        name (str): for a network that has none.
        statistics (dict): `mean` and `std` of its images.
    """
    if isinstance(student.backbone, LibraryNetwork):
        return student.backbone.facts.override(statistics)
    size = pair(student.config.get('img_size'))
    return mmpretrain_networks.measure(student.config, name, size,
                                       **statistics)
