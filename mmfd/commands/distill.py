"""Distil any teacher, or several, into any student, all by name.

    mmfd distill --teacher timm:vit_base_patch16_dinov3=FILE \\
        --student timm:resnet50 --data DIR --out DIR

A network is LIBRARY:NAME, and =FILE for its weights; LIBRARY is timm, hf,
torchvision, mm (mmpretrain) or mmfd. --teacher takes several, too. What is
left out is chosen for the images at hand. `mmfd train OUT/recipe/....py`
trains the same.
"""
from mmfd.commands.img_size import ImgSize
from mmfd.commands.recipe_options import add_options
from mmfd.launch import command_line, threads


def main():
    threads.wait_briefly()  # before PyTorch is imported
    parser = command_line.parser_of(__doc__)
    parser.add_argument(
        '--teacher', required=True, nargs='+', metavar='NETWORK')
    parser.add_argument('--student', required=True, metavar='NETWORK')
    add_options(parser)
    parser.add_argument(
        '--img-size',
        action=ImgSize,
        help='side, or height and width, of what both networks see')
    parser.add_argument(
        '--stages',
        type=int,
        default=1,
        help='how often: from the second on the teacher is the student '
        'of the\nstage before (1)')
    args = parser.parse_args()
    from mmfd.launch import paths
    with command_line.one_message():
        paths.check(folders=args.data, networks=[*args.teacher, args.student])
        from mmfd.recipes.distill import distill
        distill(**vars(args))
