import copy

import pytest
import torch
import torch.nn.functional as F
from helpers.models import arch, clip_teacher, distillation, student
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample


@pytest.fixture
def model():
    return MODELS.build(distillation())


def pixels(batch=2, size=32):
    return torch.randint(0, 256, (batch, 3, size, size)).float()


def test_smooth_l1_of_beta_2_has_the_official_values():
    loss = MODELS.build(distillation()['head']['loss'])
    for distance, value in [(1., 0.25), (2., 1.), (3., 2.)]:
        assert loss(torch.tensor(distance), torch.tensor(0.)) == value


def test_target_is_white_per_token_after_the_teachers_own_norm(model):
    backbone = model.teacher.backbone
    torch.nn.init.normal_(backbone.ln1.weight)  # an affine that matters
    x = pixels()
    target = model.teacher(x)
    assert target.shape == (2, 17, 128)
    assert target.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(
        target.var(-1, correction=0), torch.ones(2, 17), rtol=0, atol=1e-3)
    own = backbone(model.teacher.normalize(x))[-1]
    mean, var = own.mean(
        -1, keepdim=True), own.var(
            -1, keepdim=True, correction=0)
    torch.testing.assert_close(target, (own - mean) / (var + 1e-5).sqrt())


def test_teacher_sees_clip_statistics_whatever_the_student_sees(model):
    seen = []
    model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0]))
    x = pixels()
    model.loss(x)
    mean = torch.tensor([.48145466, .4578275, .40821073]).view(3, 1, 1)
    std = torch.tensor([.26862954, .26130258, .27577711]).view(3, 1, 1)
    torch.testing.assert_close(seen[0], (x / 255 - mean) / std)


def test_cls_token_counts_as_much_as_every_other(model):
    target = torch.zeros(2, 17, 128)
    for token in (0, 5):
        pred = target.clone()
        pred[:, token] = 1.
        loss = model.head.loss(pred, target)['loss']
        assert loss == pytest.approx(0.25 / 17)


def test_teacher_stays_in_eval_when_model_trains(model):
    model.train()
    assert model.backbone.training
    assert not any(m.training for m in model.teacher.backbone.modules())


def test_teacher_is_in_no_parameters_checkpoint_or_average(model):
    names = [name for name, _ in model.named_parameters()]
    assert {n.split('.')[0] for n in names} == {'backbone', 'neck'}
    assert {k.split('.')[0]
            for k in model.state_dict()} == {'backbone', 'neck'}
    average = ExponentialMovingAverage(model)
    assert average.module.teacher.backbone is model.teacher.backbone
    assert copy.deepcopy(model).backbone is not model.backbone


def test_teacher_gets_no_gradient_and_student_does(model):
    model.loss(pixels())['loss'].backward()
    assert all(p.grad is None for p in model.teacher.backbone.parameters())
    assert all(p.grad is not None for p in model.parameters())


def test_teacher_follows_the_model_to_another_dtype(model):
    model.double()
    assert model.teacher.backbone.cls_token.dtype is torch.float64
    assert model.teacher.normalize.mean.dtype is torch.float64


def test_teacher_sees_pixels_at_its_own_resolution():
    model = MODELS.build(
        distillation(
            clip_teacher(img_size=32),
            backbone=student(img_size=64, patch_size=16)))
    x = pixels(size=64)
    shrunk = F.interpolate(x, (32, 32), mode='bilinear', antialias=True)
    assert torch.equal(model.teacher(x), model.teacher(shrunk))
    assert model.loss(x)['loss'] > 0


@pytest.mark.parametrize('plain', [
    dict(type='mmpretrain.VisionTransformer', arch=arch(), out_type='raw'),
    dict(
        type='mmpretrain.TIMMBackbone',
        model_name='vit_tiny_patch16_224',
        embed_dim=48),
])
def test_any_backbone_that_gives_tokens_is_a_student(plain):
    backbone = dict(plain, img_size=32, patch_size=8)
    model = MODELS.build(distillation(backbone=backbone))
    model.loss(pixels())['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())


def test_different_grids_name_the_knob():
    model = MODELS.build(distillation(backbone=student(patch_size=16)))
    with pytest.raises(ValueError, match=r'5 \(1 \+ 2 x 2\).*neck.grid=4 '):
        model.loss(pixels())


def test_different_widths_name_the_knob():
    neck = dict(type='mmfd.ProjectionNeck', in_channels=48, out_channels=96)
    model = MODELS.build(distillation(neck=neck))
    with pytest.raises(ValueError, match='neck.out_channels=128'):
        model.loss(pixels())


def test_student_of_another_width_names_the_knob():
    neck = dict(type='mmfd.ProjectionNeck', in_channels=64, out_channels=128)
    model = MODELS.build(distillation(neck=neck))
    with pytest.raises(ValueError, match='neck.in_channels=48'):
        model.loss(pixels())


def test_maps_of_one_grid_meet_as_tokens_do():
    """A convolutional student, and a teacher without its cls token."""
    teacher = clip_teacher()
    teacher.backbone.out_type = 'featmap'
    resnet = dict(
        type='mmpretrain.ResNet',
        depth=18,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1, ))
    neck = dict(type='mmfd.ProjectionNeck', in_channels=128, out_channels=128)
    model = MODELS.build(distillation(teacher, backbone=resnet, neck=neck))
    x = pixels()
    model.loss(x)['loss'].backward()
    assert all(p.grad is not None for p in model.parameters())
    samples = model.predict(x, [DataSample(), DataSample()])
    featmap = model.extract_feat(x)[-1]
    assert featmap.shape == (2, 128, 4, 4)
    torch.testing.assert_close(
        torch.stack([sample.feature for sample in samples]),
        featmap.mean((2, 3)))


def test_map_of_a_teacher_holds_its_patch_tokens():
    """In row-major order, as a convolution's."""
    model = MODELS.build(distillation())
    x = pixels()
    tokens = model.teacher(x)
    model.teacher.backbone.out_type = 'featmap'
    torch.testing.assert_close(model.teacher(x), tokens[:, 1:])


def test_backbone_that_gives_no_tokens_names_the_knob():
    model = MODELS.build(distillation(backbone=student(out_type='cls_token')))
    message = r"^backbone gives \(2, 48\), .*set backbone.out_type='raw'"
    with pytest.raises(ValueError, match=message):
        model.loss(pixels())


def test_teacher_that_gives_no_tokens_names_the_knob():
    teacher = clip_teacher()
    teacher.backbone.out_type = 'cls_token'
    model = MODELS.build(distillation(teacher))
    with pytest.raises(ValueError, match="set teacher.backbone.out_type='raw"):
        model.loss(pixels())


def test_preprocessor_turns_bgr_bytes_into_rgb_pixels(model):
    bgr = [torch.tensor([1, 2, 3], dtype=torch.uint8).view(3, 1, 1)] * 2
    inputs = model.data_preprocessor(dict(inputs=bgr))['inputs']
    assert inputs.dtype is torch.float32
    assert inputs.flatten(1).tolist() == [[3, 2, 1]] * 2


def test_images_of_different_sizes_name_the_cure(model):
    images = [torch.zeros(3, 4, 4), torch.zeros(3, 4, 6)]
    with pytest.raises(ValueError, match='end the pipeline with a crop'):
        model.data_preprocessor(dict(inputs=images))


def test_any_registered_loss_takes_part():
    head = dict(
        type='mmfd.DistillationHead', loss=dict(type='torch.nn.MSELoss'))
    model = MODELS.build(distillation(head=head))
    pred, target = torch.randn(2, 2, 17, 128)
    assert model.head.loss(pred, target)['loss'] == F.mse_loss(pred, target)


def test_loss_overfits_one_batch(model):
    model.init_weights()
    x, optimizer = pixels(4), torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(60):
        losses.append(model.loss(x)['loss'])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.4 * losses[0]
