"""What is kept of a network does not grow with the images."""
import torch
from helpers.models import build_random, distillation

from mmfd.analysis.layer_statistics import SAMPLE, LayerStatistics
from mmfd.analysis.load_networks import Network


def test_what_is_kept_of_each_image_is_a_sample_of_its_output():
    model = build_random(distillation()).eval()
    network = Network('student', None, model, model.backbone, model.backbone)
    statistics, channels = LayerStatistics(network, images=SAMPLE), 48
    for _ in range(3):
        statistics.add(dict(inputs=torch.rand(10, 3, 32, 32) * 255))
    kept = statistics.sample + statistics.cls_tokens  # one of each an image
    assert sum(len(tensor) for tensor in kept) == 2 * 30
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept)
    assert held == 2 * 30 * channels * 4
