"""A file fits a network in every tensor, or is refused by name."""
import pytest
import torch
from helpers.models import clip_teacher
from mmengine.registry import MODELS

from mmfd.errors import Refused
from mmfd.weights import checkpoints
from mmfd.weights.strict_loading import load_into


def test_missing_teacher_says_where_it_comes_from(tmp_path):
    config = clip_teacher(tmp_path / 'clip.pth')
    with pytest.raises(
            Refused,
            match=r'no weights file .*clip.pth. OpenAI publishes it under the '
            r'MIT licence: .*tools/convert.py openai-clip https.*ViT-B-16.pt'):
        MODELS.build(config)


def test_teacher_that_fits_only_partly_is_refused_by_name(tmp_path):
    file = tmp_path / 'clip.pth'
    weights = MODELS.build(clip_teacher()).backbone.state_dict()
    weights['extra'] = weights.pop('pre_norm.bias')
    checkpoints.save(weights, file, {})
    with pytest.raises(Refused, match='lacks pre_norm.bias and has extra'):
        MODELS.build(clip_teacher(file))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_weights_that_have_lost_digits_are_refused_by_name(tmp_path, dtype):
    file = tmp_path / 'half.pth'
    checkpoints.save(dict(weight=torch.ones(2, 2, dtype=dtype)), file, {})
    with pytest.raises(Refused, match="half.pth holds 'weight' in torch."):
        load_into(torch.nn.Linear(2, 2, bias=False), file)


@pytest.mark.parametrize('dtype', [torch.int8, torch.bool, torch.complex64])
def test_whole_and_imaginary_numbers_are_no_weights(tmp_path, dtype):
    """PyTorch would take them for fractions, and leave out what is not."""
    file, net = tmp_path / 'w.pth', torch.nn.Module()
    net.scale = torch.nn.Parameter(torch.ones(2))
    net.register_buffer('steps', torch.tensor(3))
    torch.save(dict(scale=torch.ones(2, dtype=dtype), steps=net.steps), file)
    with pytest.raises(Refused, match=f"'scale'.* in {dtype}"):
        load_into(net, file)
    torch.save(dict(scale=torch.zeros(2), steps=torch.tensor(7)), file)
    assert load_into(net, file) == [] and net.steps == 7


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_of_a_run_that_diverged_are_refused_by_name(tmp_path, value):
    file, linear = tmp_path / 'w.pth', torch.nn.Linear(2, 2)
    weights = dict(linear.state_dict(), bias=torch.tensor([1., value]))
    checkpoints.save(weights, file, {})
    with pytest.raises(Refused, match='w.pth: bias has numbers that are not '):
        load_into(linear, file)


def test_double_precision_has_every_digit(tmp_path):
    file, linear = tmp_path / 'w.pth', torch.nn.Linear(2, 2)
    weights = {k: v.double() for k, v in linear.state_dict().items()}
    checkpoints.save(weights, file, {})
    loaded = torch.nn.Linear(2, 2)
    load_into(loaded, file)
    assert loaded.weight.dtype == torch.float32
    assert torch.equal(loaded.weight, linear.weight)


def test_loading_tells_what_it_left_out(tmp_path):
    file = tmp_path / 'classifier.pth'
    weights = torch.nn.Linear(2, 2).state_dict(prefix='backbone.')
    weights |= torch.nn.Linear(2, 9).state_dict(prefix='head.fc.')
    checkpoints.save(weights, file, {})
    linear = torch.nn.Linear(2, 2)
    assert load_into(linear, file, 'backbone') == ['head']
    assert torch.equal(linear.weight, weights['backbone.weight'])


def test_size_message_names_both_shapes(tmp_path):
    file = tmp_path / 'large.pth'
    checkpoints.save(torch.nn.Linear(3, 2).state_dict(), file, {})
    with pytest.raises(
            Refused,
            match=r'weight is \[2, 3\] in the file and \[2, 2\] in '
            r'the network\. Set arch'):
        load_into(torch.nn.Linear(2, 2), file)
