"""Stand-ins for mmcv's compiled ops, where it is installed without them.

mmdet and mmseg call them in the compiled module `mmcv._ext`. Importing this
file puts a module in its place: NMS (`suppression`), RoIAlign, focal loss,
deformable convolution and deformable attention (`fp32_ops`). A compiled mmcv
keeps its own. `tools/train.py` does it where a config needs it, other programs
by

    custom_imports = dict(
        imports=['mmfd.hosts.mmcv_ops'], allow_failed_imports=False)

in a config, or, where a program imports mmdet before it reads one, as mmdet's
own test.py does, by

    python -m mmfd.hosts.mmcv_ops PROGRAM [ARGUMENTS]

Every function takes and fills what the C++ function of its name does (mmcv
`ops/csrc/pytorch/`), forward and backward, on any device, in fp32, fp16 and
bf16.
"""
import importlib.util
import runpy
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType

from mmfd.hosts import fp32_ops, suppression

NAME = 'mmcv._ext'
OPS = (
    suppression.nms,
    suppression.softnms,
    fp32_ops.roi_align_forward,
    fp32_ops.roi_align_backward,
    fp32_ops.sigmoid_focal_loss_forward,
    fp32_ops.sigmoid_focal_loss_backward,
    fp32_ops.ms_deform_attn_forward,
    fp32_ops.ms_deform_attn_backward,
    fp32_ops.deform_conv_forward,
    fp32_ops.deform_conv_backward_input,
    fp32_ops.deform_conv_backward_parameters,
    fp32_ops.modulated_deform_conv_forward,
    fp32_ops.modulated_deform_conv_backward,
)


class Ext(ModuleType):
    """`mmcv._ext` without C++; an op that is not here raises when called."""

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return partial(fp32_ops.lacking, name)


def install():
    """Put the stand-ins in place, unless mmcv has ops of its own."""
    if NAME in sys.modules or importlib.util.find_spec(NAME):
        return
    module = sys.modules[NAME] = Ext(NAME, __doc__)
    module.__spec__ = ModuleSpec(NAME, None)
    vars(module).update({op.__name__: op for op in OPS})
    sys.modules['mmcv']._ext = module


install()  # whoever imports this file asks for it, as a config does

if __name__ == '__main__':
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name='__main__')
