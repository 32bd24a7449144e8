"""Take the student out of a training checkpoint.

    python tools/export.py work_dirs/clip_vitb_fd/epoch_300.pth student.pth
"""
import argparse


def main():
    from mmfd import checkpoints, launch
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('checkpoint', help='file that training wrote')
    parser.add_argument('dst', help='file to write, .pth or .safetensors')
    parser.add_argument(
        '--to',
        choices=['backbone'],
        default='backbone',
        help='backbone: mm names; loads in every OpenMMLab library')
    args = parser.parse_args()
    with launch.one_message():
        weights = checkpoints.state_dict_of(
            checkpoints.load(args.checkpoint), args.checkpoint)
        student = {
            key.removeprefix('backbone.'): value
            for key, value in weights.items() if key.startswith('backbone.')
        }
        if not student:
            first = ', '.join([*weights][:4])
            raise ValueError(
                f'{args.checkpoint} holds no student: none of its keys begins '
                f"with 'backbone.'; they begin with {first}")
        checkpoints.save(student, args.dst, dict(kind=args.to))
        print(f'{args.dst}: {len(student)} tensors, '
              f'{sum(t.numel() for t in student.values()):,} numbers')


if __name__ == '__main__':
    main()
