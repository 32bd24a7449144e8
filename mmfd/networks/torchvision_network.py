"""Networks of torchvision by name, as teacher or student."""
import torch
from torch.func import functional_call
from torchvision import models
from torchvision.models import feature_extraction

from mmfd.errors import Refused
from mmfd.networks import names
from mmfd.networks.facts import Facts
from mmfd.networks.library_network import LibraryNetwork, check_size, pair
from mmfd.registry import MODELS

NODES = dict(  # class -> node of its graph that gives the last map or tokens
    ConvNeXt='features',
    DenseNet='relu',
    EfficientNet='features',
    MNASNet='layers',
    MobileNetV2='features',
    MobileNetV3='features',
    RegNet='trunk_output',
    ResNet='layer4',
    ShuffleNetV2='conv5',
    SwinTransformer='permute',
    VGG='features',
    VisionTransformer='encoder')
LAST_NORMS = dict(ConvNeXt=['classifier.0'])  # applied after pooling
TOKENS = 'VisionTransformer'  # a cls token and patches
CLASSIFIERS = 'classifier.', 'fc.', 'head.', 'heads.'
OUT = 'features'
SIZE = 224  # pixels, where a network takes any size


@MODELS.register_module()
class TorchvisionNetwork(LibraryNetwork):
    """A network of torchvision without its classifier, with random weights.

    Its features are the map that it pools, or a ViT's tokens.

    Args:
        name (str): of `torchvision.models.get_model`: `resnet50`.
        img_size (int | tuple): that a ViT is built for, a square; the others
            take any size.
        model_args (dict): further arguments of `get_model`.
        facts (dict): those of its `Facts` that are other than torchvision
            says.
        init_cfg (dict): see `LibraryNetwork`.

    Raises:
        Refused: for a name that torchvision does not know, or a network
            without a map.
    """

    def __init__(self,
                 name,
                 img_size=None,
                 model_args=None,
                 facts=None,
                 init_cfg=None):
        said = published(name)
        args, size = dict(model_args or {}), pair(img_size)
        is_vit = name.startswith('vit_')
        if is_vit and size:
            if size[0] != size[1]:
                raise Refused(f'{name} of torchvision takes square images, '
                              f'and not {size[0]} x {size[1]}')
            args['image_size'] = size[0]
        try:
            network = models.get_model(name, weights=None, **args)
        except (AssertionError, TypeError, ValueError) as error:
            raise Refused(f'torchvision builds no {name} with {args}: '
                          f'{error}') from error
        kind = type(network).__name__
        if kind not in NODES:
            raise Refused(f'{name} is a {kind} of torchvision, which is none '
                          f'of those that can be used: {", ".join(NODES)}')
        norms = LAST_NORMS.get(kind, [])
        graph = feature_extraction.create_feature_extractor(
            network, {NODES[kind]: OUT})
        for norm in norms:
            graph.add_submodule(norm, network.get_submodule(norm))
        trained = said and said.transforms().crop_size[0] or SIZE
        facts = _measured(name, graph, kind == TOKENS, size, said,
                          pair(trained)).override(facts)
        fixed = size or pair(trained) if kind == TOKENS else None
        if fixed:
            check_size(name, fixed, facts.patch)
        super().__init__(graph, facts, fixed, norms, (), init_cfg)

    def features(self, x):
        """(B, 1 + h * w, C), or a map (B, C, h, w)."""
        return self.normed(self.network(x)[OUT])

    def translate(self, weights):
        """The published weights without the classifier's."""
        own = self.network.state_dict()
        return {
            name: value
            for name, value in weights.items()
            if name in own or not name.startswith(CLASSIFIERS)
        }


def published(name):
    """The best weights that torchvision has for a name, or None.

    Raises:
        Refused: if it knows no such network; names the nearest ones.
    """
    names.check_torchvision(name)
    weights = models.get_model_weights(name)
    return weights.DEFAULT if len(weights) else None


def _measured(name, graph, is_vit, size, said, trained):
    """Facts; torchvision says no widths, so a call without numbers does.

    A ViT takes images of its own size alone, the others any: here one that
    all patches divide.
    """
    image = (size or trained) if is_vit else (SIZE, SIZE)
    tensors = dict(graph.named_parameters(), **dict(graph.named_buffers()))
    with torch.no_grad():
        shape = functional_call(graph.eval(), {
            k: v.to('meta')
            for k, v in tensors.items()
        }, torch.zeros(1, 3, *image, device='meta'))[OUT].shape
    graph.train()
    transforms = said and said.transforms()
    return Facts(
        name=f'torchvision:{name}',
        width=shape[2 if is_vit else 1],
        patch=int(name.split('_')[2]) if is_vit else image[0] // shape[2],
        img_size=trained,
        mean=tuple(255 * x for x in transforms.mean) if said else (),
        std=tuple(255 * x for x in transforms.std) if said else (),
        cls=int(is_vit),
        source=said and said.url)
