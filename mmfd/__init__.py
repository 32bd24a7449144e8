"""mmfd: Feature Distillation for OpenMMLab.

A frozen teacher and a student look at the same pixels, each in its own
statistics; the student learns the teacher's whitened tokens. One step of
post-processing, and a network pre-trained by contrast, by labels or by both
fine-tunes like one pre-trained by masked image modelling (Wei et al., arXiv
2205.14141, ICCV 2023). Start reading at `distillation.py`.
"""
__version__ = '0.1.0'

# where modules are found by their names of before
__path__.append(__path__[0] + '/former_names')
