"""What a host's preprocessor gives is the same where it does not wait.

That it does not is counted on the null device (`tests/gpu`).
"""
import copy

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmfd.fast.non_blocking import copy_without_waiting


@pytest.mark.parametrize('augment', ['Mixup', 'CutMix'])
def test_mixed_images_and_labels_stay_what_they_are(augment):
    host = MODELS.build(
        dict(
            type='mmpretrain.ClsDataPreprocessor',
            mean=[127.5] * 3,
            std=[64.] * 3,
            num_classes=10,
            batch_augments=dict(augments=[
                dict(type=f'mmpretrain.{augment}', alpha=1.),
            ])))
    batch = dict(
        inputs=torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8),
        data_samples=[DataSample().set_gt_label(i) for i in range(8)])
    given = []
    for change in (lambda module: None, copy_without_waiting):
        change(host)
        np.random.seed(0)
        torch.manual_seed(0)
        data = host(copy.deepcopy(batch), True)
        given.append((data['inputs'],
                      torch.stack([s.gt_score for s in data['data_samples']])))
    for ours, theirs in zip(*given):
        assert torch.equal(ours, theirs)
    assert (given[0][1] > 0).sum() > 8  # they are mixed
