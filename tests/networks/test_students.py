"""Networks of five libraries learn a teacher's tokens."""
import pytest
import torch
from helpers.foreign import skip_without
from helpers.models import clip_teacher, distillation, pixels, student
from mmengine.registry import MODELS

from mmfd.networks import by_name

SIZE = 64
VIT = dict(
    hidden_size=48,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=3,
    patch_size=16,
    image_size=SIZE)
MAPS = dict(depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64])


def of_timm(name, **args):
    fixed = args.pop('fixed', False)
    return dict(
        dict(type='mmfd.TimmNetwork', name=name, model_args=args),
        **(dict(img_size=SIZE) if fixed else {}))


def of_huggingface(kind, **config):
    return dict(
        type='mmfd.HuggingFaceNetwork', config=dict(config, model_type=kind))


def of_torchvision(name):
    return dict(type='mmfd.TorchvisionNetwork', name=name)


STUDENTS = {  # the first five, of a library each, in the default tests
    'timm vit': of_timm('vit_tiny_patch16_224', depth=2, fixed=True),
    'hf dinov3': of_huggingface('dinov3_vit', num_register_tokens=4, **VIT),
    'torchvision mobilenet': of_torchvision('mobilenet_v3_small'),
    'mm mobilenet': dict(type='mmpretrain.MobileNetV2'),
    'mmfd vit': student(img_size=SIZE, patch_size=16),
    'timm registers': of_timm(
        'vit_small_patch16_dinov3', depth=2, fixed=True),
    'timm eva': of_timm(
        'eva02_tiny_patch14_224', depth=2, patch_size=16, fixed=True),
    'timm swin': of_timm(
        'swin_tiny_patch4_window7_224', depths=(1, 1, 1, 1), embed_dim=24,
        fixed=True),
    'timm hiera': of_timm('hiera_tiny_224', stages=(1, 1, 1, 1), fixed=True),
    'timm convnext': of_timm('convnext_atto'),
    'timm resnet': of_timm('resnet10t'),
    'timm mobilenet': of_timm('mobilenetv3_small_050'),
    'timm mambaout': of_timm('mambaout_femto'),
    'timm fastvit': of_timm('fastvit_t8'),
    'timm siglip': of_timm(
        'vit_base_patch16_siglip_224', depth=1, embed_dim=48, num_heads=3,
        fixed=True),
    'hf vit': of_huggingface('vit', **VIT),
    'hf clip': of_huggingface('clip_vision_model', **VIT),
    'hf beit': of_huggingface('beit', **VIT),
    'hf convnext': of_huggingface('convnext', **MAPS),
    'hf resnet': of_huggingface('resnet', embedding_size=16, **MAPS),
    'hf swinv2': of_huggingface(
        'swinv2', embed_dim=24, depths=[1, 1], num_heads=[1, 2],
        window_size=4, image_size=SIZE),
    'torchvision resnet': of_torchvision('resnet18'),
    'torchvision efficientnet': of_torchvision('efficientnet_b0'),
    'torchvision convnext': of_torchvision('convnext_tiny'),
    'torchvision shufflenet': of_torchvision('shufflenet_v2_x0_5'),
    'mm resnet': 'mm:resnet18_8xb32_in1k',
    'mm convnext': 'mm:convnext-v2-atto_fcmae-pre_3rdparty_in1k',
}
CASES = [
    pytest.param(config, id=name, marks=[] if i < 5 else pytest.mark.full)
    for i, (name, config) in enumerate(STUDENTS.items())
]


@pytest.mark.parametrize('config', CASES)
def test_student_learns_and_every_weight_takes_part(config):
    if not isinstance(config, str) and 'config' in config:
        skip_without(config['config']['model_type'])
    torch.manual_seed(0)
    backbone = by_name.find(config).backbone if isinstance(config,
                                                           str) else config
    images = pixels(8, SIZE)
    network = MODELS.build(backbone)
    network.eval()
    with torch.no_grad():
        last = network(images[:1] / 255)[-1]
    teacher = clip_teacher(layers=1)  # 8 x 8 tokens of 8 pixels
    teacher.backbone.img_size = SIZE
    teacher.neck.update(tokens='map')
    width = last.shape[2] if last.ndim == 3 else last.shape[1]
    model = MODELS.build(
        distillation(
            teacher,
            backbone=backbone,
            neck=dict(
                type='mmfd.ProjectionNeck',
                in_channels=width,
                out_channels=128,
                tokens='map',
                grid=8)))
    model.init_weights()
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    losses = []
    for _ in range(6):
        loss = model.loss(images)['loss']
        optimizer.zero_grad()
        loss.backward()
        without = [
            name for name, p in model.named_parameters()
            if p.requires_grad and p.grad is None
        ]
        assert not without
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
