"""What is known of a network beside its weights: its facts."""
import dataclasses
import json
from dataclasses import dataclass

from mmfd.errors import Refused


@dataclass(frozen=True)
class Facts:
    """What a network or its files say of it; nothing is guessed.

    Attributes:
        name: library and name, `'timm:vit_small_patch14_dinov2'`.
        width: channels C of its tokens.
        patch: pixels between two tokens of its map.
        img_size: (H, W) of the images that its weights were trained on.
        mean, std: of these images, RGB, on the 0-255 scale.
        cls: tokens before the map that describe the image: cls, distillation.
        registers: tokens between these and the map that are its own notes.
            They are left out of what it returns.
        licence: of the weights, or None.
        source: where the weights are published, or None.
    """
    name: str
    width: int
    patch: int
    img_size: tuple
    mean: tuple
    std: tuple
    cls: int = 0
    registers: int = 0
    licence: str | None = None
    source: str | None = None

    def override(self, changes):
        """The same facts but for those of a config.

        Args:
            changes (dict | None): name of a fact -> value.

        Raises:
            Refused: for a name that is no fact.
        """
        changes = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in (changes or {}).items()
        }
        names = [field.name for field in dataclasses.fields(self)]
        unknown = [key for key in changes if key not in names]
        if unknown:
            raise Refused(f'facts={changes}: {unknown[0]!r} is no fact of a '
                          f'network; these are: {", ".join(names)}')
        return dataclasses.replace(self, **changes)

    def statistics(self):
        """The config of `mmfd.Normalize` with its mean and std.

        Raises:
            Refused: if they are not known.
        """
        if not (self.mean and self.std):
            raise Refused(
                f'{self.name} does not say with which mean and standard '
                'deviation of pixels it was trained: set them, RGB, 0-255, as '
                'normalize=dict(type="mmfd.Normalize", mean=[...], std=[...])')
        return dict(type='mmfd.Normalize', mean=[*self.mean], std=[*self.std])

    def grid(self, image):
        """(h, w) of the map of an image (H, W) that patches cover."""
        return tuple(side // self.patch for side in image)

    def where(self):
        """The end of a message about a missing file; '' if it is not known."""
        if not self.source:
            return ''
        return f'The weights of {self.name} are published: {self.source}'

    def as_text(self):
        """All of it as JSON, as a checkpoint has it."""
        return json.dumps(dataclasses.asdict(self))

    def describe(self):
        """All of it in one line, as the log of a run has it."""
        before = [f'{self.cls} cls'] * bool(self.cls)
        before += [f'{self.registers} registers'] * bool(self.registers)
        numbers = [
            ' '.join(f'{number:.2f}'.rstrip('0').rstrip('.')
                     for number in numbers or ()) or 'unknown'
            for numbers in (self.mean, self.std)
        ]
        return (f'{self.name}: {self.width} channels, patches of '
                f'{self.patch}, tokens before the map: '
                f'{" and ".join(before) or "none"}; trained on '
                f'{" x ".join(map(str, self.img_size))} pixels of mean '
                f'{numbers[0]} and std {numbers[1]}; licence: '
                f'{self.licence or "unknown"}; weights: '
                f'{self.source or "unknown"}')
