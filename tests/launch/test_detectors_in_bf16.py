"""A Mask R-CNN in bf16 has the gradients of fp32, to the rounding of bf16."""
import copy
import math

import pytest
import torch
from helpers.downstream import write_configs, write_student
from mmcv.ops import MultiScaleDeformableAttention
from mmdet.models.roi_heads import SingleRoIExtractor

from mmfd.hosts import fp32_modules
from mmfd.hosts.openmmlab import is_drop_path
from mmfd.launch.config_options import read_config
from mmfd.launch.runner import prepare

BF16 = 2**-8  # half a step of its last bit, relative


@pytest.fixture
def detector(tmp_path, shapes_root):
    """A small one on a ViT, without drop path, and a batch of shapes."""
    write_student(tmp_path / 'fd.pth')
    write_configs(tmp_path, shapes_root)
    cfg = read_config(tmp_path / 'det.py')
    cfg.update(launcher='none', work_dir=str(tmp_path / 'run'))
    runner = prepare(cfg, train=True)
    for module in filter(is_drop_path, runner.model.modules()):
        module.drop_prob = 0.
    return runner.model.train(), next(iter(runner.train_dataloader))


def gradients(model, batch, dtype, proposals=None):
    """Loss, gradients, and the proposals, which are chosen if not given.

    What is sampled of them is drawn from one seed. So two calls with the same
    proposals compute the same function.
    """
    model.zero_grad()
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    objects = copy.deepcopy(data['data_samples'])
    for sample in objects:  # to the RPN all are of one class
        sample.gt_instances.labels.zero_()
    with torch.autocast('cpu', dtype, dtype != torch.float32):
        maps = model.extract_feat(data['inputs'])
        if proposals is None:
            with torch.no_grad():
                proposals = model.rpn_head.predict(
                    maps, data['data_samples'], rescale=False)
        torch.manual_seed(0)
        losses = model.rpn_head.loss(maps, objects)
        losses |= model.roi_head.loss(maps, copy.deepcopy(proposals),
                                      data['data_samples'])
        loss, _ = model.parse_losses(losses)
    loss.backward()
    found = {k: p.grad.clone() for k, p in model.named_parameters()}
    return loss.item(), found, proposals


def test_gradients_of_a_detector_are_those_of_fp32(detector):
    exact, expected, proposals = gradients(*detector, torch.float32)
    loss, found, _ = gradients(*detector, torch.bfloat16, proposals)
    assert loss == pytest.approx(exact, rel=2 * BF16)
    assert {grad.dtype for grad in found.values()} == {torch.float32}
    apart = sum((found[k] - expected[k]).square().sum() for k in expected)
    size = sum(grad.square().sum() for grad in expected.values())
    # a rounding in each of some tens of layers
    assert 0 < math.sqrt(apart / size) < 10 * BF16


def extractor():
    return SingleRoIExtractor(
        dict(type='RoIAlign', output_size=7, sampling_ratio=0), 2, [4])


def test_boxes_are_not_rounded_to_the_dtype_of_maps():
    maps = [torch.randn(1, 2, 8, 320).bfloat16()]
    far = torch.tensor([[0, 1101.3, 4.2, 1133.9, 27.7]])
    expected = extractor()([maps[0].float()], far)
    host, exact = extractor(), extractor()
    fp32_modules.compute_in_fp32(exact)
    assert torch.equal(exact(maps, far), expected)
    assert (host(maps, far) - expected).abs().max() > 0.1


def test_points_of_deformable_attention_are_not_rounded():
    module = MultiScaleDeformableAttention(
        embed_dims=16, num_heads=2, num_levels=1, num_points=2).eval()
    torch.nn.init.normal_(module.attention_weights.weight)
    query, value = torch.randn(4, 1, 16), torch.randn(64, 1, 16)
    inputs = dict(
        value=value,
        reference_points=torch.rand(1, 4, 1, 2),
        spatial_shapes=torch.tensor([[8, 8]]),
        level_start_index=torch.tensor([0]))
    exact = module(query, **inputs)
    fp32_modules.compute_in_fp32(module)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(module(query, **inputs), exact)
