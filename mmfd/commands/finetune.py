"""Fine-tune a student into a classifier of one's own classes.

    mmfd finetune --student work_dirs/RUN --data DIR --out DIR

DIR holds train/CLASS and val/CLASS, or CLASS alone. What is left out is chosen
for the images at hand. `mmfd train OUT/recipe/....py` trains the same.
"""
from mmfd.commands.recipe_options import add_options
from mmfd.launch import command_line, threads


def main():
    threads.wait_briefly()  # before PyTorch is imported
    parser = command_line.parser_of(__doc__)
    parser.add_argument(
        '--student',
        required=True,
        metavar='FILE',
        help='file or folder of `mmfd distill`, or a checkpoint')
    add_options(parser)
    args = parser.parse_args()
    from mmfd.launch import paths
    with command_line.one_message():
        paths.check(folders=args.data, existing=[args.student])
        from mmfd.recipes.finetune import finetune
        finetune(**vars(args))
