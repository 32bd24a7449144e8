"""benchmarks/gpu.py, where there is no GPU."""
import json

import pytest
from helpers.commands import refused, run

TOOL = 'benchmarks/gpu.py'


def test_without_a_gpu_the_check_is_one_message():
    message = refused(TOOL, env=dict(CUDA_VISIBLE_DEVICES=''))
    assert message.startswith('error: PyTorch sees no GPU')


@pytest.mark.full
def test_every_section_runs_on_small_networks(tmp_path):
    status, output = run(
        TOOL, '--small', '--json', tmp_path / 'gpu.json', seconds=1800)
    rows = json.loads((tmp_path / 'gpu.json').read_text())
    assert not [row for row in rows if row[1] == 'ended by'], output
    assert len({row[0] for row in rows}) == 8
    assert status == any(row[-1] is False for row in rows)
