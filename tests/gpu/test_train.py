"""tools/train.py from its start to its end on the null device.

The CPU computes what the kernels would (`helpers/null_kernels.py`), so losses,
checkpoints and evaluations are real, while tensors, kernels chosen, autocast
and copies are CUDA's.
"""
import pytest
import torch
from helpers import runs
from helpers.commands import ROOT


@pytest.fixture(scope='module')
def config(tmp_path_factory, shapes_root):
    path = tmp_path_factory.mktemp('gpu') / 'small.py'
    path.write_text(runs.CONFIG.format(repo=ROOT, root=shapes_root))
    return path


@pytest.fixture
def train(null_device, config):

    def train(work_dir, *options):
        return null_device('-m', 'helpers.null_kernels', 'tools/train.py',
                           config, '--verbose', '--work-dir', work_dir,
                           *options)

    return train


@pytest.mark.full
def test_a_run_on_cuda_has_the_losses_and_weights_of_a_cpu(
        train, config, tmp_path):
    train(tmp_path / 'cuda')
    runs.run(config, tmp_path / 'cpu')
    cuda, cpu = tmp_path / 'cuda', tmp_path / 'cpu'
    assert len(runs.losses(cpu)) == 12
    assert runs.losses(cuda) == pytest.approx(runs.losses(cpu), rel=1e-4)
    ours, theirs = (runs.curves(x)['val', 2][0] for x in (cuda, cpu))
    assert ours == pytest.approx(theirs, rel=1e-3)
    ours, theirs = (runs.final(x)['state_dict'] for x in (cuda, cpu))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.full
def test_a_run_in_bf16_resumes_as_if_it_had_not_stopped(train, tmp_path):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    train(whole, '--amp')
    train(parts, '--amp', '--cfg-options', 'train_cfg.max_epochs=1')
    train(parts, '--amp', '--resume')
    assert runs.losses(parts) == runs.losses(whole)
    for name, value in runs.final(whole)['state_dict'].items():
        assert torch.equal(runs.final(parts)['state_dict'][name], value), name
