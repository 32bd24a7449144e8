"""Say of which class images are, with the probabilities.

    mmfd predict --model work_dirs/RUN photo.jpg FOLDER
"""
import json

from mmfd.launch import command_line, threads


def main():
    threads.wait_briefly()  # before PyTorch is imported
    parser = command_line.parser_of(__doc__)
    parser.add_argument(
        '--model',
        required=True,
        metavar='FILE',
        help='file or folder of `mmfd finetune`')
    parser.add_argument('images', nargs='+', help='files, or folders of them')
    parser.add_argument(
        '--top', type=int, default=3, help='most likely classes (3)')
    parser.add_argument(
        '--json', action='store_true', help='print JSON in place of lines')
    args = parser.parse_args()
    from mmfd.launch import paths
    with command_line.one_message():
        paths.check(existing=[args.model, *args.images])
        from mmfd.recipes.predict import predict
        found = predict(args.model, args.images, args.top)
        if args.json:
            print(json.dumps(found, indent=1))
            return
        for image in found:
            said = image.get('error') or '  '.join(
                f'{name} {probability:.3f}'
                for name, probability in image['classes'].items())
            print(f'{image["image"]}  {said}')
