"""Bring foreign weights into mm names; nothing in their files is executed.

    mmfd convert openai-clip ViT-B-16.pt checkpoints/clip_vitb16.pth
    mmfd convert mae https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth checkpoints/mae_vitb16.pth
    mmfd convert --list
"""  # noqa: E501
import argparse
import os

from mmfd import files
from mmfd.launch import command_line


class ListPublished(argparse.Action):

    def __call__(self, parser, namespace, values, option_string=None):
        from mmfd.weights import published
        print(published.table())
        parser.exit()


def main():
    from mmfd.weights import (checkpoints, convert, download, provenance,
                              published, saved_networks, weight_files)
    parser = command_line.parser_of(__doc__)
    parser.add_argument(
        '--list',
        action=ListPublished,
        nargs=0,
        help='print where files of each kind are published, and exit')
    parser.add_argument('kind', choices=sorted(convert.CONVERTERS))
    parser.add_argument(
        'src', help='file or folder as its authors published it, or address')
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    parser.add_argument(
        '--take',
        metavar='PLACE',
        default='',
        help='keys or prefix of the network to take, if SRC holds several:\n'
        'model_ema, student.backbone')
    parser.add_argument(
        '--sha256', metavar='SUM', help='refuse SRC if its sum is another')
    args = parser.parse_args()
    with command_line.one_message():
        url, path = '', args.src
        shown = published.without_query(args.src)
        row = published.find(url=args.src)
        expected = [s for s in (args.sha256, row and row.sha256) if s]
        if '://' in args.src:
            url, path = args.src, download.fetch(args.src, expected)
        sha256 = weight_files.sha256(path)
        files.check_sha256(sha256, expected, shown)
        row = row or published.find(sha256=sha256)
        checkpoint = checkpoints.load(path)
        network, others = convert.find(args.kind, checkpoint, shown, args.take)
        weights = network.fitted
        meta = dict(
            kind=args.kind,
            source=os.path.basename(path),
            url=row.url if row else published.without_query(url) or 'unknown',
            sha256=sha256,
            licence=row.licence if row else 'unknown',
            **provenance.of_kind(args.kind),
            **provenance.of_official(checkpoint))
        checkpoints.save(weights, args.dst, meta)
        print(f'{args.dst}: {len(weights)} tensors, '
              f'{sum(t.numel() for t in weights.values()):,} numbers, '
              f'source sha256 {sha256}, licence {meta["licence"]}')
        for line in (*saved_networks.describe(network, others,
                                              '--take takes another'),
                     *convert.remarks(args.kind, network)):
            print(line)
