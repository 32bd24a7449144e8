"""Where the files that tools/convert.py takes are published."""
from typing import NamedTuple
from urllib.parse import urlsplit

from mmfd.errors import Refused

OPENAI = 'https://openaipublic.azureedge.net/clip/models'
META = 'https://dl.fbaipublicfiles.com'
GITHUB = 'https://github.com'
HUGGING_FACE = 'https://huggingface.co'
SWIN = f'{GITHUB}/SwinTransformer/storage/releases/download'
ESVIT = ('https://chunyleu.blob.core.windows.net/output/ckpts/esvit/swin/'
         'swin_base/bl_lr0.0005_nodes4_gpu16_bs8_multicrop_epoch300_dino_aug_'
         'window14_lv/continued_from_epoch0200_dense_norm_true')


class Published(NamedTuple):
    """A file as its authors publish it.

    Attributes:
        kind: key of `convert.CONVERTERS`.
        folder: address without the file's name.
        licence: of the weights, as their authors state it.
        sha256: its sum, or as many of the first digits as are published.
        note: for `table`.
    """
    kind: str
    folder: str
    file: str
    licence: str
    sha256: str = ''
    note: str = ''

    @property
    def url(self):
        return f'{self.folder}/{self.file}'


def _clip(file, sha256):
    """OpenAI's addresses hold the sum (openai/CLIP `clip/clip.py`)."""
    return Published('openai-clip', f'{OPENAI}/{sha256}', file, 'MIT', sha256)


def _hub(kind, repository, file, licence, sha256='', note=''):
    """A file of a repository of the Hugging Face hub."""
    return Published(kind, f'{HUGGING_FACE}/{repository}/resolve/main', file,
                     licence, sha256, note)


PUBLISHED = [
    _clip('ViT-B-16.pt',
          '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f'),
    _clip('ViT-L-14.pt',
          'b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836'),
    _clip('ViT-L-14-336px.pt',
          '3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02'),
    Published('dino', f'{META}/dino/dino_vitbase16_pretrain',
              'dino_vitbase16_pretrain.pth', 'Apache-2.0'),
    Published('deit', f'{META}/deit', 'deit_base_patch16_224-b5f2ef4d.pth',
              'Apache-2.0', 'b5f2ef4d'),
    Published('mae', f'{META}/mae/pretrain', 'mae_pretrain_vit_base.pth',
              'CC-BY-NC-4.0'),
    Published(
        'esvit',
        ESVIT,
        'checkpoint_best.pth',
        'MIT',
        note='append the ?sp=... of the README of github.com/microsoft/esvit; '
        'the store may be gone'),
    Published('swin', f'{SWIN}/v1.0.0', 'swin_base_patch4_window7_224_22k.pth',
              'MIT'),
    Published('swinv2', f'{SWIN}/v2.0.0',
              'swinv2_base_patch4_window12_192_22k.pth', 'MIT'),
    Published('swinv2', f'{SWIN}/v2.0.0',
              'swinv2_large_patch4_window12_192_22k.pth', 'MIT'),
    Published(
        'open-clip',
        f'{GITHUB}/mlfoundations/open_clip/releases/download/v0.2-weights',
        'vit_b_16-laion400m_e32-55e67d44.pt',
        'MIT',
        '55e67d44b44d9e39aaf299a5c616aaf10a655879d6bd5854027b4a254aa2e7d5',
        note='trained with GELU'),
    _hub('hf-clip', 'openai/clip-vit-large-patch14', 'model.safetensors',
         'MIT',
         'a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb',
         "OpenAI's weights: QuickGELU"),
    _hub('hf-vit', 'facebook/dino-vitb16', 'pytorch_model.bin', 'Apache-2.0'),
    _hub('hf-vit', 'facebook/vit-mae-base', 'pytorch_model.bin',
         'CC-BY-NC-4.0', '', "MAE's licence; the page says Apache-2.0"),
    _hub('timm', 'timm/vit_base_patch16_224.augreg_in21k', 'pytorch_model.bin',
         'Apache-2.0', '', 'mean and std 127.5'),
    Published(
        'fd-official',
        f'{GITHUB}/SwinTransformer/Feature-Distillation/blob/main',
        'README.md',
        'MIT',
        note='links to the checkpoints at Google Drive, for a browser'),
]


def find(url='', sha256=''):
    """The row with this address, whatever its query, or this sum; or None."""
    for row in PUBLISHED:
        if row.url == without_query(url) or row.sha256 == sha256 != '':
            return row


def without_query(url):
    """An address without its query, which may hold a secret.

    Raises:
        Refused: if it is no address.
    """
    try:
        return urlsplit(url)._replace(query='', fragment='').geturl()
    except ValueError as error:
        raise Refused(f'{url.partition("?")[0]} is no address: {error}; '
                      'expected https://.../NAME, or a path') from error


def table():
    """All rows as text, one a line, then the notes."""
    head = ('KIND', 'FILE', 'LICENCE', 'SHA256', 'ADDRESS')
    rows = [(row.kind, row.file, row.licence, row.sha256 or 'unknown', row.url)
            for row in PUBLISHED]
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    lines = [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths))
        for row in (head, *rows)
    ]
    notes = [f'{row.url}: {row.note}' for row in PUBLISHED if row.note]
    return '\n'.join(map(str.rstrip, (*lines, '', *notes)))
