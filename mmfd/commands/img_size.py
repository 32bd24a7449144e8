"""`--img-size`: a side, or height and width."""
import argparse


class ImgSize(argparse.Action):
    """One or two numbers of pixels, as (height, width)."""

    def __init__(self, option_strings, dest, **kwargs):
        super().__init__(
            option_strings,
            dest,
            nargs='+',
            type=int,
            metavar='PIXELS',
            **kwargs)

    def __call__(self, parser, namespace, values, option_string=None):
        if len(values) > 2 or min(values) < 1:
            parser.error(f'{option_string} {" ".join(map(str, values))}: '
                         'expected is a side, or height and width, in pixels')
        setattr(namespace, self.dest, (values[0], values[-1]))
