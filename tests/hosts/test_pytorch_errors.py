"""The texts of errors that mmfd relies on."""
import socket

import pytest
import torch
from torch import distributed

from mmfd.errors import Refused
from mmfd.hosts import pytorch_errors


def test_missing_processes_rely_on_the_text_of_the_time_out():
    text = 'Timed out waiting 1500ms for recv operation to complete'
    assert pytorch_errors.timeout_of(RuntimeError(text)) == 1.5
    assert pytorch_errors.timeout_of(RuntimeError('out of memory')) is None


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
