"""What timm does not promise to keep: attributes, how it reads weights."""
import threading

from mmfd.errors import Refused
from mmfd.hosts import versions
from mmfd.hosts.lookup import find

_only_one = threading.Lock()


def library():
    """timm itself.

    Raises:
        Refused: if it is not installed.
    """
    timm = find('timm')
    if timm is None:
        raise Refused('networks by names of timm need it: pip install timm')
    return timm


def create(name, **kwargs):
    """Build a network with random weights.

    Args:
        name (str), kwargs: of `timm.create_model`.

    Returns:
        tuple: the network, and the function `(weights, network) -> weights` by
        which timm changes a published file into the network's names and
        sizes; None if it changes nothing. timm hands it from the function
        that builds a network to the one that loads, so it is taken there.

    Raises:
        Refused: if timm has no such function.
    """
    timm, builder = library(), find('timm.models._builder')
    if find('timm.models._builder:load_pretrained') is None:
        raise versions.lacks('timm', 'models._builder.load_pretrained')
    seen = {}

    def note(model, filter_fn=None, **_):
        seen['filter'] = filter_fn

    with _only_one:
        load, builder.load_pretrained = builder.load_pretrained, note
        try:
            network = timm.create_model(name, pretrained=True, **kwargs)
        finally:
            builder.load_pretrained = load
    if 'filter' not in seen:
        raise versions.lacks('timm', f'filter of weights for {name}')
    return network, seen['filter']


def prefix_tokens(network):
    """How many tokens are before a network's map, and how many of them last.

    Returns:
        tuple: all of them, and the registers among them, which are the last.
        Networks without such tokens have no attributes for them.
    """
    before = getattr(network, 'num_prefix_tokens', None) or 0
    registers = getattr(network, 'num_reg_tokens', None)
    if registers is None:
        token = getattr(network, 'reg_token', None)
        registers = 0 if token is None else token.shape[1]
    return before, registers


def is_channels_last(network):
    """Whether a network says that its maps are (B, h, w, C)."""
    return str(getattr(network, 'output_fmt', '')).endswith('NHWC')


def has_attention_pool(network):
    """Whether a network has kept the attention that pools its tokens."""
    return getattr(network, 'attn_pool', None) is not None
