"""Stand-ins for mmcv's compiled ops: the compiled numbers, or a refusal."""
import importlib.util
import runpy
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import ops_cases

from mmfd.errors import Refused
from mmfd.hosts import fp32_ops, mmcv_ops, suppression

mmcv_ops.install()


@pytest.fixture(scope='module')
def ours():
    return ops_cases.results()


def test_nms_and_roi_align_equal_the_compiled_ones(ours):
    compiled = np.load(ops_cases.RESULTS)
    assert {*compiled} == {*ours} and len(ours) > 10 * ops_cases.COUNT
    for name, values in ours.items():
        assert values.dtype == compiled[name].dtype, name
        np.testing.assert_allclose(
            values, compiled[name], rtol=0, atol=1e-6, err_msg=name)


def test_cases_are_not_trivial(ours):
    """Classes matter, overlaps lower scores, and some boxes are outside."""

    def kept(start):
        return sum(
            len(v) for k, v in ours.items()
            if k.startswith(start) and k.endswith(' 1'))

    assert 0 < kept('batched nms False') < 0.95 * kept('batched nms True')
    maps = [v for k, v in ours.items() if k.startswith('roi_align')]
    assert any(len(v) and not v.any() for v in maps)
    assert sum(v.any() for v in maps) > ops_cases.COUNT


@pytest.mark.parametrize('call, name', [
    (lambda mmcv: mmcv.RoIAlign(2, pool_mode='max')
     (torch.rand(1, 1, 4, 4), torch.zeros(1, 5)),
     "roi_align with pool_mode='max'"),
    (lambda mmcv: mmcv.RoIPool(2, 1.)
     (torch.rand(1, 1, 4, 4), torch.zeros(1, 5)), 'roi_pool_forward'),
    (lambda mmcv: mmcv.softmax_focal_loss(
        torch.rand(2, 3), torch.tensor([0, 1])), 'softmax_focal_loss_forward'),
])
def test_op_without_a_stand_in_is_named_when_it_is_called(call, name):
    import mmcv.ops
    with pytest.raises(NotImplementedError, match=f'^{name} is a compiled op'):
        call(mmcv.ops)


@pytest.mark.parametrize('imported', [True, False])
def test_compiled_mmcv_keeps_its_own(imported, monkeypatch):
    compiled = ModuleType('mmcv._ext')
    if imported:
        monkeypatch.setitem(sys.modules, 'mmcv._ext', compiled)
    else:  # it can be imported
        monkeypatch.delitem(sys.modules, 'mmcv._ext')
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(
            'importlib.util.find_spec', lambda name: compiled
            if name == 'mmcv._ext' else find_spec(name))
    runpy.run_path(mmcv_ops.__file__)
    assert sys.modules.get('mmcv._ext') is (compiled if imported else None)


def test_importing_the_module_puts_the_stand_ins_in_place(monkeypatch):
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    runpy.run_path(mmcv_ops.__file__)
    assert sys.modules['mmcv._ext'] is sys.modules['mmcv']._ext


def test_soft_nms_takes_boxes_of_equal_scores_in_the_order_of_the_cpp_loop():
    """The first of equals; the last boxes come to the places of dropped."""
    boxes = torch.tensor([[0., 0, 4, 4], [0, 0, 4, 4], [8, 8, 9, 9],
                          [16, 16, 17, 17]])
    boxes.requires_grad_()  # as those of a network that is trained
    dets = torch.zeros(4, 5)
    kept = suppression.softnms(boxes, torch.full((4, ), 0.5), dets, 0.3, 0.5,
                               0.1, suppression.NAIVE, 0)
    assert kept.tolist() == [0, 3, 2]  # box 1 is dropped, box 3 is last
    assert dets[:, 4].tolist() == [0.5, 0.5, 0.5, 0]


def test_the_gradient_of_roi_align_relies_on_torchvisions_backward(take_away):
    maps, rois = torch.randn(2, 3, 7, 6), torch.tensor([[1, 0.5, 1, 5, 6]])
    rest = torch.randn(1, 3, 2, 2), rois, None, None, torch.zeros_like(maps)
    fp32_ops.roi_align_backward(*rest, 2, 2, 1., 2, 1, True)
    assert rest[-1].any()
    take_away('torch:ops.torchvision._roi_align_backward')
    with pytest.raises(Refused, match='torchvision .* has no .*backward'):
        fp32_ops.roi_align_backward(*rest, 2, 2, 1., 2, 1, True)
