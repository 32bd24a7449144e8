"""All processes know one iteration later what one of them requests."""
import json

from helpers.runs import together

SCRIPT = '''
import json
import sys
from pathlib import Path

from torch import distributed

from mmfd.launch import processes
from mmfd.training.stop_signals import RequestVote

processes.join('pytorch')
rank = distributed.get_rank()
requests = RequestVote(timeout=60)
# the first wants to save in iteration 0, the second gets a signal in 1
answers = [
    requests.exchange(15 * ((rank, iteration) == (1, 1)),
                      (rank, iteration) == (0, 0)) for iteration in range(4)
]
requests.close()
Path(sys.argv[1], f'{rank}.json').write_text(json.dumps(answers))
'''


def test_two_processes_know_of_a_request_one_iteration_later(tmp_path):
    (tmp_path / 'script.py').write_text(SCRIPT)
    together(2, tmp_path / 'script.py', tmp_path, log=tmp_path / 'log')
    for rank in range(2):
        answers = json.loads((tmp_path / f'{rank}.json').read_text())
        assert answers == [[0, 0], [0, 1], [15, 0], [0, 0]]
