"""mmpretrain beside transformers 5, which its multimodal models cannot import.

Where pycocotools and transformers are installed, `import mmpretrain.models`
imports models of images and text as well. Beside transformers 5 they raise,
and no network of mmpretrain can be imported. mmpretrain can do without them:
where it finds no transformers, it puts functions in their place that say what
to install.
"""
import sys

IMPORTED_BY = '<5'  # versions of transformers that these models import
ASKS = 'mmpretrain.models', 'mmpretrain.datasets'  # which import them


def leave_out_beside_newer_transformers():
    """Let mmpretrain leave its multimodal models out where they would fail.

    Nothing is imported yet: it is done right before mmpretrain's models are
    imported, be it by mmfd, by mmengine's Runner or by a user's program.
    """
    if not any(isinstance(finder, _Before) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Before())


class _Before:
    """Finds no module; Python asks it before it imports one."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ASKS:
            _leave_out()
        return None


def _leave_out():
    # not at the top: every `import mmfd` would wait for them
    from importlib.metadata import PackageNotFoundError, version

    from packaging.specifiers import SpecifierSet

    from mmfd.hosts.lookup import find
    try:
        installed = version('transformers')
    except PackageNotFoundError:
        return
    dependency = find('mmpretrain.utils.dependency')
    if dependency is not None and not SpecifierSet(IMPORTED_BY).contains(
            installed, prereleases=True):
        dependency.WITH_MULTIMODAL = False
