"""Take the student out of a checkpoint, for OpenMMLab or another library.

    mmfd export work_dirs/clip_vitb_fd/epoch_300.pth student.pth
    mmfd export CHECKPOINT student.safetensors --to timm
    mmfd export CHECKPOINT folder --to hf
"""
import argparse
import json
import os
from pathlib import Path

from mmfd import files
from mmfd.errors import Refused


def main():
    from mmfd.launch import command_line
    from mmfd.launch.config_options import read_config
    from mmfd.weights import checkpoints, provenance
    from mmfd.weights.carried_config import carried_config
    from mmfd.weights.export import LIBRARIES, export
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        'checkpoint', help='file of training or of `mmfd convert`')
    parser.add_argument(
        'dst', help='file to write, .pth or .safetensors; for hf a folder too')
    parser.add_argument(
        '--to',
        choices=['backbone', *sorted(LIBRARIES)],
        default='backbone',
        help='backbone: mm names; loads in every OpenMMLab library\n'
        'hf, timm: BEiT or Swin V2 of transformers or timm, with the\n'
        'classifier if there is one')
    parser.add_argument(
        '--config',
        help='config the checkpoint was trained with, if it carries none')
    args = parser.parse_args()
    with command_line.one_message():
        dst = Path(args.dst)
        folder = args.to == 'hf' and not dst.suffix
        if not folder and dst.suffix not in ('.pth', '.safetensors'):
            raise Refused(f'{dst} is to end in .pth or .safetensors')
        if args.config:
            model = read_config(args.config).get('model', {})
        else:
            model = carried_config(
                args.checkpoint, to_build=args.to != 'backbone')
        weights, config, python = export(args.checkpoint, model, args.to)
        origin = dict(
            provenance.of_file(args.checkpoint),
            file=os.path.basename(args.checkpoint))
        python = python.format(', '.join(f'{k}={v!r}'
                                         for k, v in config.items()))
        meta = dict(
            origin,
            library=args.to,
            python=python,
            config=json.dumps(config, default=str),
            format='pt')
        if args.to == 'backbone':  # to be exported again
            statistics = {
                key: model[key]
                for key in ('normalize', 'data_preprocessor') if key in model
            }
            meta['model'] = json.dumps(
                dict(statistics, backbone=config), default=str)
        if folder:
            checkpoints.save(weights, dst / 'model.safetensors', meta)
            with files.output_file(dst / 'config.json') as file:
                file.write_text(meta['config'])
            cls = config['architectures'][0]
            python = f'transformers.{cls}.from_pretrained({str(dst)!r})'
        else:
            checkpoints.save(weights, dst, meta)
        print(f'{dst}: {len(weights)} tensors, '
              f'{sum(t.numel() for t in weights.values()):,} numbers\n'
              f'{provenance.describe(origin)}\nbuilt by {python}')
