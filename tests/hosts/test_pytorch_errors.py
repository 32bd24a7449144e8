"""The texts of errors that mmfd relies on."""
import os
import socket
import subprocess
import sys

import pytest
import torch
from helpers import runs
from torch import distributed

from mmfd.errors import Refused
from mmfd.hosts import pytorch_errors


def test_missing_processes_rely_on_the_text_of_the_time_out():
    text = 'Timed out waiting 1500ms for recv operation to complete'
    assert pytorch_errors.timeout_of(RuntimeError(text)) == 1.5
    assert pytorch_errors.timeout_of(RuntimeError('out of memory')) is None


LEAVE = '''
import os, sys
from torch import distributed
distributed.init_process_group('gloo')
if distributed.get_rank() == 1:
    os._exit(0)
distributed.barrier()
'''


def test_a_process_that_leaves_relies_on_gloos_text():
    """What the other one's barrier says."""
    port = runs.free_port()
    ends = [
        subprocess.Popen([sys.executable, '-c', LEAVE],
                         stderr=subprocess.PIPE,
                         text=True,
                         env=dict(
                             os.environ,
                             RANK=str(rank),
                             WORLD_SIZE='2',
                             MASTER_ADDR='127.0.0.1',
                             MASTER_PORT=str(port))) for rank in range(2)
    ]
    said = [end.communicate(timeout=120)[1] for end in ends][0]
    text = said.strip().splitlines()[-1]
    assert text.removeprefix('[rank0]: ').startswith('RuntimeError: ')
    assert pytorch_errors.is_of_another_process(RuntimeError(text))
    assert not pytorch_errors.is_of_another_process(RuntimeError('a bug'))


def test_a_port_in_use_relies_on_eaddrinuse_in_the_text():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        with pytest.raises(distributed.DistNetworkError) as raised:
            distributed.TCPStore(
                '127.0.0.1', taken.getsockname()[1], is_master=True)
    assert pytorch_errors.port_in_use(raised.value)


class Broken(torch.utils.data.Dataset):

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise Refused('this image: and that')


@pytest.mark.parametrize('workers', [0, 1])
def test_a_workers_message_relies_on_the_end_of_the_text_it_is_raised_with(
        workers):
    try:
        next(iter(torch.utils.data.DataLoader(Broken(), num_workers=workers)))
    except Refused as error:
        text, message = str(error), pytorch_errors.message_of(error)
        error.__traceback__ = None  # or the worker ends 5 s later
    assert ('Traceback' in text) == bool(workers)
    assert message == 'this image: and that'


def test_sizes_that_differ_rely_on_the_text_of_load_state_dict():
    wide, narrow = torch.nn.Linear(4, 3), torch.nn.Linear(2, 3)
    with pytest.raises(RuntimeError) as raised:
        narrow.load_state_dict(wide.state_dict())
    found = pytorch_errors.shape_mismatches(raised.value)
    assert found == [('weight', '[3, 4]', '[3, 2]')]
    assert pytorch_errors.shape_mismatches(RuntimeError('other')) == []
