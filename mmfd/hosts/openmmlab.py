"""What mmengine, mmpretrain and mmcv do not promise to keep: each once."""
from mmfd.hosts import versions
from mmfd.hosts.lookup import find

# What mmengine's CheckpointHook remembers of the files that it has written
FILES = ('keep_ckpt_ids', 'last_ckpt', 'best_ckpt_path', 'best_ckpt_path_dict')


def accumulative_counts(optim_wrapper):
    """How many iterations make one update of the weights.

    Raises:
        Refused: if mmengine does not say.
    """
    try:
        return optim_wrapper._accumulative_counts
    except AttributeError:
        raise versions.lacks('mmengine',
                             'OptimWrapper._accumulative_counts') from None


def remembered_files(hook):
    """The attributes of a CheckpointHook that tell of its files: a dict."""
    return {name: value for name, value in vars(hook).items() if name in FILES}


def set_checkpoint_loader(loader):
    """Let mmengine read every checkpoint that is a local file by a function.

    Args:
        loader (callable): (filename, map_location) -> the object in the file.

    Raises:
        Refused: if mmengine takes none: its own loader may run what is in a
            file.
    """
    register = find('mmengine.runner.checkpoint:CheckpointLoader.'
                    'register_scheme')
    if register is None:
        raise versions.lacks('mmengine', 'CheckpointLoader.register_scheme')
    register('', loader=loader, force=True)
