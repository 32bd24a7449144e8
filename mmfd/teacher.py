"""The teacher: a frozen network that sees pixels. Never trained or saved."""
import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process
from torch import nn

from mmfd.errors import Refused, dict_with
from mmfd.fast.frozen import FrozenForward
from mmfd.hosts import openmmlab
from mmfd.hosts.lookup import check_methods
from mmfd.networks.library_network import LibraryNetwork, pair
from mmfd.networks.token_layout import features_of
from mmfd.registry import MODELS, build_part
from mmfd.weights import checkpoints, strict_loading, weight_files


@MODELS.register_module()
class Teacher(nn.Module):
    """Freeze `backbone` and let it see pixels in its own normalisation.

    PyTorch does not know of the backbone, on purpose. It is in no
    `parameters()`, hence in no optimizer, gradient bucket or EMA. It is in no
    `state_dict()`, hence in no checkpoint. `train()` does not reach it, so it
    stays in eval mode, except for drop path if `drop_path_rate` is set. Moves
    to another device or dtype do reach it.

    Args:
        checkpoint (str): file with the backbone's weights. All must match.
            They have the names of mmpretrain, as `tools/convert.py` writes
            them; those of a network of another library
            (`mmfd.TimmNetwork`), as this publishes them. `'random'` trains
            against random weights, for tests and benchmarks.
        normalize (dict): config of `mmfd.Normalize`: the statistics that the
            teacher was trained with. None takes those that its backbone says.
        backbone (dict): any registered backbone that returns tokens, with its
            own final norm.
        neck (dict): what turns tokens into the target: `mmfd.WhiteningNeck`.
        img_size (int | tuple): side or (H, W) in pixels of the images that the
            teacher was trained on. Pixels of another size are resized to it.
            None keeps their size, unless the backbone says that it takes no
            other than its own.
        antialias (bool): resize pixels with antialiasing. The official code
            has none where CLIP ViT-L sees images of another size than 224.
        resize_positions (bool): interpolate the file's positions, bicubically,
            where they are of another grid than the backbone's, as the
            official code does with CLIP ViT-B at sizes other than 224.
        prefix (str): what the names of the backbone's weights begin with in
            that file: `'backbone.'` in a whole model.
        source (str): where the weights can be had and how they get into
            `checkpoint`. The message for a missing file says it.
        drop_path_rate (float): drop path of the teacher while the model
            trains, an ablation (sec. 3.2). The rate in `backbone` is that of
            the teacher's own training, and not used.

    Raises:
        Refused: if the file is missing or does not fit the backbone.
    """

    def __init__(self,
                 checkpoint,
                 backbone,
                 neck,
                 normalize=None,
                 img_size=None,
                 antialias=True,
                 resize_positions=False,
                 prefix='',
                 source='',
                 drop_path_rate=0.):
        super().__init__()
        check_methods(nn.Module, '_apply')  # by which modules are moved
        dict_with('teacher.backbone', backbone, 'type')
        size, patch = backbone.get('img_size'), backbone.get('patch_size')
        if isinstance(size, int) and patch and size % patch:
            raise Refused(
                f'teacher.backbone.img_size={size} is not a multiple of its '
                f'patch_size={patch}')
        if drop_path_rate:
            backbone = dict(backbone, drop_path_rate=drop_path_rate)
        backbone = build_part('teacher.backbone', backbone, 'backbone')
        named = isinstance(backbone, LibraryNetwork)
        if named:
            normalize = normalize or backbone.facts.statistics()
            img_size = img_size or backbone.input_size
        elif normalize is None:
            raise Refused('teacher.normalize is not set, and '
                          f'{type(backbone).__name__} does not say with which '
                          'statistics it was trained: set it to '
                          'dict(type="mmfd.Normalize", mean=[...], std=[...])')
        self.img_size, self.antialias = pair(img_size), antialias
        self.normalize = build_part('teacher.normalize', normalize,
                                    'statistics')
        self.fingerprint = weight_files.RANDOM
        if checkpoint != weight_files.RANDOM:
            if named:
                backbone.load_weights(checkpoint, source, prefix)
            else:
                strict_loading.load_into(
                    backbone,
                    checkpoint,
                    prefix,
                    source,
                    exact=not resize_positions,
                    half=True)
        planned = any(weight.is_meta for weight in backbone.parameters())
        if is_main_process() and not planned:  # it alone writes checkpoints
            self.fingerprint = checkpoints.fingerprint(
                dict(
                    backbone.state_dict(),
                    mean=self.normalize.mean,
                    std=self.normalize.std))
        backbone.eval()
        backbone.requires_grad_(False)
        self._hidden = (backbone, )  # PyTorch looks for submodules in no tuple
        self._backbone_forward = FrozenForward(backbone)
        self._drop_paths = tuple(
            module for module in backbone.modules()
            if drop_path_rate and openmmlab.is_drop_path(module))
        self.neck = build_part('teacher.neck', neck, 'target_neck')

    @property
    def backbone(self):
        return self._hidden[0]

    def _apply(self, fn, recurse=True):
        self.backbone._apply(fn, recurse)
        self.weights_replaced()
        return super()._apply(fn, recurse)

    def weights_replaced(self):
        """To be called after the backbone's weights became other tensors."""
        self._backbone_forward.weights_replaced()

    def compile_backbone(self, options):
        """Compile the backbone's forward; `options` of `torch.compile`."""
        self._backbone_forward.compile(options, trained=self)

    def copies(self):
        """The copies of weights that calls have made for later ones."""
        return self._backbone_forward.copies()

    def train(self, mode=True):
        super().train(mode)
        for module in self._drop_paths:
            module.train(mode)
        return self

    def __deepcopy__(self, memo):
        return self  # EMA copies the model; what never changes is shared

    @torch.no_grad()
    def forward(self, pixels):
        """Pixels (B, 3, H, W) RGB 0-255 -> the target (B, L, C) in fp32."""
        if self.img_size and pixels.shape[-2:] != self.img_size:
            pixels = F.interpolate(
                pixels,
                self.img_size,
                mode='bilinear',
                antialias=self.antialias)
        feats = self._backbone_forward(self.normalize(pixels))
        return self.neck(features_of(self.backbone, feats, pixels.shape[-2:]))


def teachers_in(model):
    """The teachers of a model, in the order of its branches: a list."""
    return [part for part in model.modules() if isinstance(part, Teacher)]
