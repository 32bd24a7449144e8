"""Take the student out of a checkpoint, for OpenMMLab or another library.

    mmfd export work_dirs/clip_vitb_fd/epoch_300.pth student.pth
    mmfd export CHECKPOINT student.safetensors --with-projection
    mmfd export CHECKPOINT student.safetensors --to timm
    mmfd export CHECKPOINT folder --to hf
    mmfd export CHECKPOINT student.onnx --to onnx
"""
import json
import os
from pathlib import Path
from textwrap import indent

from mmfd import files
from mmfd.commands.img_size import ImgSize
from mmfd.errors import Refused
from mmfd.launch import command_line


def main():
    from mmfd.launch import paths
    from mmfd.weights import provenance
    from mmfd.weights.export import LIBRARIES
    parser = command_line.parser_of(__doc__)
    parser.add_argument(
        'checkpoint', help='file of training or of `mmfd convert`')
    parser.add_argument(
        'dst',
        help='file to write, .pth or .safetensors; for hf a folder too, for\n'
        'onnx .onnx')
    parser.add_argument(
        '--to',
        choices=['backbone', *sorted(LIBRARIES), 'onnx'],
        default='backbone',
        help='backbone: mm names; loads in every OpenMMLab library\n'
        'hf, timm, torchvision: a network of that library in its names; BEiT\n'
        'or Swin V2 too, with the classifier if there is one\n'
        'onnx: any student, compared with ONNX Runtime')
    parser.add_argument(
        '--with-projection',
        action='store_true',
        help="for backbone: keep what gives the teacher's own features, for\n"
        'mmfd.load_student(FILE).target_features(pixels)')
    parser.add_argument(
        '--img-size',
        action=ImgSize,
        help='for onnx: one number, or height and width; else what the\n'
        'student was built for, or 224')
    parser.add_argument(
        '--config',
        help='config the checkpoint was trained with, if it carries none')
    args = parser.parse_args()
    with command_line.one_message():
        paths.check([args.config] if args.config else (), [args.checkpoint])
        from mmengine.registry import DefaultScope

        from mmfd.launch.config_options import read_model_config
        from mmfd.weights.carried_config import carried_config
        dst = Path(args.dst)
        _check_options(args, dst)
        origin = dict(
            provenance.of_file(args.checkpoint),
            file=os.path.basename(args.checkpoint))
        scope = None  # names in a checkpoint are whole
        if args.config:
            cfg = read_model_config(args.config, {})
            model, scope = cfg.model, cfg.get('default_scope', 'mmpretrain')
        else:
            model = carried_config(
                args.checkpoint, to_build=args.to != 'backbone')
        write = _write_onnx if args.to == 'onnx' else _write_weights
        with DefaultScope.overwrite_default_scope(scope):
            wrote, snippet = write(args, dst, model, origin)
        print(f'{dst}: {wrote}\n{provenance.describe(origin)}')
        if snippet:
            print(f'load it by\n\n{indent(snippet, " " * 4)}')
        else:
            print('built by its config')


def _check_options(args, dst):
    """Refuse options of another format than `--to`."""
    allowed = ('.onnx', ) if args.to == 'onnx' else ('.pth', '.safetensors')
    if dst.suffix not in allowed and (args.to != 'hf' or dst.suffix):
        raise Refused(f'{dst} is to end in {" or ".join(allowed)}')
    if args.img_size and args.to != 'onnx':
        raise Refused('--img-size is for --to onnx: in other formats a '
                      'student has its own size')
    if args.with_projection and args.to != 'backbone':
        raise Refused('--with-projection is for --to backbone: other '
                      'libraries have no place for it')


def _write_weights(args, dst, model, origin):
    """Write weights: what was written, and the program that loads it."""
    from mmfd.weights import carried_config, checkpoints
    from mmfd.weights.export import export
    exported, parts = export(args.checkpoint, model, args.to), {}
    if args.with_projection:
        exported, parts = _with_projection(args, exported, model)
    weights, config = exported.weights, exported.config
    meta = dict(
        origin,
        library=args.to,
        python=exported.built or 'its config',
        config=json.dumps(config, default=str),
        format='pt')
    if args.to == 'backbone':  # to be exported again
        meta['model'] = carried_config.config_to_carry(model, config, parts)
    if dst.suffix:
        checkpoints.save(weights, dst, meta)
    else:
        checkpoints.save(weights, dst / 'model.safetensors', meta)
        texts = {'config.json': meta['config']}
        processor = _processor(args, model, config)
        if processor:
            texts['preprocessor_config.json'] = json.dumps(processor)
        for name, text in texts.items():
            with files.output_file(dst / name) as file:
                file.write_text(text)
    numbers = sum(tensor.numel() for tensor in weights.values())
    wrote = f'{len(weights)} tensors, {numbers:,} numbers'
    if parts:
        from mmfd.recipes import target_features
        for name, part in target_features.load(dst, parts).items():
            wrote += f'\n{name}: {part.describe()}'
    return wrote, exported.python and exported.snippet(dst)


def _with_projection(args, exported, model):
    """The same with the projections, and their parts of the model's config."""
    from mmfd.recipes import target_features
    weights, parts = target_features.with_projections(exported.weights,
                                                      args.checkpoint, model)
    if not parts:
        raise Refused(f'{args.checkpoint} has no projection, or its config '
                      'names no teacher whose targets it predicts: give a '
                      'checkpoint of a distillation')
    return exported._replace(
        weights=weights,
        python='mmfd.load_student',
        loading=lambda built, path, weights: f'model = {built}({path!r})'
    ), parts


def _processor(args, model, config):
    """How transformers prepares images, {} if statistics are not known."""
    from mmfd.networks.library_network import pair
    from mmfd.recipes.images import short_edge
    from mmfd.weights import carried_config, checkpoints, export_hf, provenance
    meta = checkpoints.meta(args.checkpoint)
    carried = json.dumps(carried_config.statistics_in(model), default=str)
    statistics = provenance.statistics(dict(meta, model=carried))
    if not statistics:
        print('no preprocessor_config.json, as neither the file nor its '
              'config says with which mean and standard deviation the student '
              'sees images')
        return {}
    size = provenance.img_size(meta) or pair(config.get('image_size', 224))
    return export_hf.processor(statistics, size, short_edge(size))


def _write_onnx(args, dst, model, origin):
    """Write a graph: what was written, and the program that runs it."""
    from mmfd.weights import carried_config, export_onnx
    from mmfd.weights.loaded_student import load_student
    student = load_student(args.checkpoint, model)
    size = args.img_size or _img_size(student)
    meta = dict(
        origin, **{
            key: json.dumps(value, default=str)
            for key, value in carried_config.statistics_in(model).items()
        })
    shape, features, difference = export_onnx.save(student.backbone, size, dst,
                                                   meta)
    return (f'images {shape} to features {features}; ONNX Runtime differs by '
            f'{difference:.1e} of the largest', export_onnx.snippet(dst, size))


def _img_size(student):
    """(height, width) that a student was built for, or 224."""
    from mmfd.networks.library_network import LibraryNetwork, pair
    size = student.config.get('img_size')
    if isinstance(student.backbone, LibraryNetwork):
        facts = student.backbone.facts
        size = student.backbone.input_size or size or facts.img_size
    return pair(size or 224)
