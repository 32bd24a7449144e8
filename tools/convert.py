"""Bring foreign weights into mm names; nothing in the file is executed.

    python tools/convert.py openai-clip ViT-B-16.pt checkpoints/clip_vitb16.pth
    python tools/convert.py dino checkpoint.pth checkpoints/my_dino.pth
"""
import argparse
import os


def main():
    from mmfd import checkpoints, launch
    from mmfd.convert import BRANCHES, CONVERTERS
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('kind', choices=sorted(CONVERTERS))
    parser.add_argument('src', help='file as its authors published it')
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    args = parser.parse_args()
    with launch.one_message():
        foreign = checkpoints.state_dict_of(
            checkpoints.load(args.src), args.src, BRANCHES[args.kind])
        try:
            converted = CONVERTERS[args.kind](foreign)
        except ValueError as error:
            raise ValueError(f'{args.src}: {error}') from None
        sha256 = checkpoints.sha256(args.src)
        checkpoints.save(
            converted, args.dst,
            dict(
                kind=args.kind,
                source=os.path.basename(args.src),
                sha256=sha256))
        print(f'{args.dst}: {len(converted)} tensors, '
              f'{sum(t.numel() for t in converted.values()):,} numbers, '
              f'source sha256 {sha256}')


if __name__ == '__main__':
    main()
