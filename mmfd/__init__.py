"""mmfd: Feature Distillation for OpenMMLab.

A frozen teacher and a student look at the same pixels, each normalised with
its own statistics. The student learns to predict the teacher's whitened
tokens. After this one step, a network that was pre-trained by contrast, by
labels or by both fine-tunes like one that was pre-trained by masked image
modelling (Wei et al., arXiv 2205.14141, ICCV 2023).

Start reading at `distillation.py`.
"""
from mmfd.hosts import multimodal

__version__ = '0.1.0'

# Modules that moved are still found by their names of version 0.1: `mmfd.ops`
# and `mmfd.shapes` are files of this folder.
__path__.append(f'{__path__[0]}/former_names')

# Where it would fail, mmpretrain's import leaves out what mmfd does not need
multimodal.leave_out_beside_newer_transformers()

# What is for programs, found where it is first asked for: name -> module
_LAZY = dict(
    distill='distill',
    finetune='finetune',
    predict='predict',
    load_student='student',
    load_classifier='classifier')


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = f'mmfd.recipes.{_LAZY[name]}'
    return __import__(module, fromlist=[name]).__dict__[name]
