"""Compare targets with their teacher, and with the loss that learns them."""
from mmengine.dist import is_main_process
from torch.utils import serialization

from mmfd.errors import Refused
from mmfd.head import DistillationHead
from mmfd.networks.token_layout import layout_of
from mmfd.registry import check_part
from mmfd.targets.losses import MaskedLoss, SumOfLosses
from mmfd.targets.normalizers import Normalizer
from mmfd.targets.token_statistics import COMMAND
from mmfd.teacher import Teacher, teachers_in
from mmfd.variants.several_layers import LayersNeck
from mmfd.weights import checkpoints, provenance


def check(model):
    """Refuse statistics of the tokens of another teacher.

    The first process knows the fingerprints of teachers, and looks for all.

    Args:
        model (nn.Module): with any number of teachers, or none.

    Raises:
        Refused: naming both fingerprints.
    """
    for place, part in _with_teachers(model) if is_main_process() else ():
        teacher = part.teacher
        for module in teacher.neck.modules():
            of = getattr(module, 'teacher', None)
            if of not in (None, teacher.fingerprint):
                raise Refused(
                    f'{place}teacher.neck.statistics are of the teacher with '
                    f'fingerprint {of}, and this teacher has '
                    f'{teacher.fingerprint}: its weights or its mean and '
                    'standard deviation differ. Compute those of this one: '
                    f'{COMMAND}')


def _with_teachers(model):
    """(Beginning of a message, module) of each that has a teacher."""
    for part in model.modules():
        if isinstance(getattr(part, 'teacher', None), Teacher):
            yield f'{part.place}: ' if hasattr(part, 'place') else '', part


def check_losses(model):
    """Refuse a loss that would count other tokens than it says.

    Args:
        model (nn.Module): with a student, `backbone`, and any number of
            teachers, each beside its `neck` and `head`; or any other.

    Raises:
        Refused: naming what to set.
    """
    layout = layout_of(model.backbone) if teachers_in(model) else None
    for place, part in _with_teachers(model):
        head = getattr(part, 'head', None)
        if not isinstance(head, DistillationHead):
            continue
        wrongs = (*_wrong_layers('', model.backbone, part.neck),
                  *_wrong_layers('teacher.', part.teacher.backbone,
                                 part.teacher.neck),
                  *_wrong_losses([*head.criterion.modules()], part, layout))
        for wrong in wrongs:
            raise Refused(place + wrong)


def _wrong_layers(side, backbone, neck):
    """Sentences: what layers are named in another order than they come in."""
    layers = getattr(backbone, 'out_indices', None)
    if (isinstance(neck, LayersNeck) and isinstance(layers, (list, tuple))
            and [*layers] != sorted(layers)):
        yield (f'{side}backbone.out_indices={[*layers]}: layers come from the '
               'first to the last, and mmfd.LayersNeck would pair others than '
               'these: name them in this order')


def _wrong_losses(losses, part, layout):
    """Sentences: what losses of a teacher would count, unlike its neck."""
    masks = getattr(part.teacher.neck, 'masks', False)
    leaves_out = any(isinstance(loss, MaskedLoss) for loss in losses)
    if masks and _learns_patches(losses[0]):
        yield (
            'teacher.neck.artifacts masks tokens and head.loss would learn '
            "their zeros: wrap it in dict(type='mmfd.MaskedLoss', loss=...)")
    if leaves_out and not masks:
        yield ('head.loss is mmfd.MaskedLoss and nothing is masked: set '
               "teacher.neck.artifacts=dict(action='mask'), or take the loss "
               'within it')
    within = [
        inner for loss in losses if isinstance(loss, SumOfLosses)
        for name, part_loss in loss.losses.items()
        if loss.chosen[name] != 'all' for inner in part_loss.modules()
    ]
    cls = (layout.prefix or 0) - layout.registers
    for loss in losses:
        if not isinstance(loss, SumOfLosses) or not loss.parts_tokens():
            continue
        check_part('neck', part.neck, 'selecting_neck')
        chosen = part.neck.select_tokens.tokens
        if chosen != 'all':
            yield (f'head.loss.terms tell cls tokens from patches, and '
                   f"neck.tokens={chosen!r}: set it to 'all', of the teacher "
                   "too, or all terms to tokens='all'")
        if loss in within:
            yield ('head.loss.terms has a term with tokens of its own within '
                   'one: give it one list of terms, with the tokens of each')
        if loss.cls != cls:
            yield (f'head.loss.cls={loss.cls}, and the student has {cls} cls '
                   'tokens before its patches: ' +
                   (f'set head.loss.cls={cls}'
                    if cls else "it has no part for tokens='cls'"))


def _learns_patches(loss):
    """Whether a loss has a part that sees patches, masked ones among them."""
    if isinstance(loss, SumOfLosses):
        return any(
            _learns_patches(part) for name, part in loss.losses.items()
            if loss.chosen[name] != 'cls')
    return not any(isinstance(part, MaskedLoss) for part in loss.modules())


def check_start(model, path):
    """Refuse a `load_from` that would replace the statistics of a teacher.

    The host loads what fits, also the buffers by which targets are normalised.

    Args:
        model (nn.Module): of a run that begins.
        path (str): of the file.

    Raises:
        Refused: if those of the file are others, or of another teacher.
    """
    normalizers = [(name, module) for name, module in model.named_modules()
                   if isinstance(module, Normalizer) and module.state_dict()]
    if not normalizers:
        return
    with serialization.config.patch('load.mmap', True):
        checkpoint = checkpoints.load(path)
    weights = checkpoint.get('state_dict', checkpoint)
    of = provenance.fingerprints(checkpoints.meta(path))
    another = not of <= {teacher.fingerprint for teacher in teachers_in(model)}
    for prefix, module in normalizers:
        for name, own in module.state_dict(prefix=f'{prefix}.').items():
            replaced = name in weights and not weights[name].equal(own.cpu())
            if replaced and (module.steady or another):
                raise Refused(
                    f'load_from={path} would replace {name}, by which this '
                    'run normalises its targets, with numbers of other '
                    'tokens: take the student alone, model.backbone.init_cfg='
                    f"dict(type='Pretrained', checkpoint='{path}', "
                    "prefix='backbone.')")
