"""What a checkpoint notes of its run, and what has changed since.

Notes are in `meta`, and described in `checkpoint_schema`.
"""
from mmengine.runner import EpochBasedTrainLoop

from mmfd.data.image_folder import ImageFolder
from mmfd.hosts import openmmlab
from mmfd.training import (checkpoint_schema, early_stopping, optimizer_schema,
                           run_settings)

LISTED = 10  # settings that are named, of all that have changed


def take(runner, run):
    """The notes on a run.

    Args:
        runner (Runner): that trains.
        run (Run): its identity, of `run_folder`.

    Returns:
        dict: entries of `meta`.
    """
    loader = runner.train_dataloader
    names = checkpoint_schema.names_of_parameters(runner)
    notes = dict(
        run=run.name,
        starts=run.starts,
        hooks=checkpoint_schema.stateful_hooks(runner.hooks),
        schedule=checkpoint_schema.schedule_of(runner),
        early_stopping=early_stopping.counts(runner.hooks),
        settings=run_settings.of_run(runner.cfg),
        unstepped=optimizer_schema.unstepped(runner.optim_wrapper, names),
        parameters=optimizer_schema.parameters(runner.optim_wrapper, names))
    if length := epoch_length(runner):
        notes['epoch_length'] = length
    if isinstance(loader.dataset, ImageFolder):
        notes['images'] = loader.dataset.summary()
    return notes


def epoch_length(runner):
    """Iterations of an epoch; None where a loop counts iterations alone."""
    loop = runner.train_loop
    return (len(loop.dataloader)
            if isinstance(loop, EpochBasedTrainLoop) else None)


def warn_of_changes(runner, meta):
    """Say why a run is not the one that it would be had it never ended.

    Args:
        runner (Runner): that resumes.
        meta (dict): of the checkpoint.
    """
    warn, loader = runner.logger.warning, runner.train_dataloader
    length = epoch_length(runner)
    before = meta.get('epoch_length', length)
    if length and length != before:
        warn(f'an epoch had {before} iterations and now has {length}: the '
             'run resumes at the same fraction of its epoch, but not with '
             'the same images')
    if 'settings' in meta:
        changes = run_settings.changes(meta['settings'],
                                       run_settings.of_run(runner.cfg))
        if changes:
            more = '; ...' * (len(changes) > LISTED)
            warn('the run goes on with other settings than before: '
                 f'{"; ".join(changes[:LISTED])}{more}')
    if meta.get('images') and isinstance(loader.dataset, ImageFolder):
        images, now = meta['images'], loader.dataset.summary()
        if images != now:
            warn(f'the run had {images["number"]:,} training images and has '
                 f'{now["number"]:,} now, or others of the same number: from '
                 'here on it is not the run that it would be if it had never '
                 'ended')
    accumulation = openmmlab.accumulative_counts(runner.optim_wrapper)
    if begun := meta['iter'] % accumulation:
        warn(f'the checkpoint is {begun} iterations into an update of '
             f'{accumulation}, whose gradients it lacks: they are '
             'repeated, and averages count them twice')
