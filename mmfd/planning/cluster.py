"""What the machines of a run read, decode and send while its GPUs compute."""
import time
from contextlib import suppress
from dataclasses import dataclass
from statistics import mean

import torch

from mmfd.data.decode import (MAX_PIXELS, BrokenImage, errors_as_broken_image,
                              read)
from mmfd.errors import Refused
from mmfd.planning.quantities import Quantity
from mmfd.training.sharding import teacher_backbones

SAMPLED = 64  # images that are read and decoded once
# Where there are none: the mean of ImageNet-1K's training images, and what
# benchmarks/loader.py measured of a core
IMAGE_BYTES, IMAGES_A_CORE = 115_000, 850


@dataclass(frozen=True)
class Machines:
    """What there is; None where nobody has said it.

    Attributes:
        nodes (int): machines.
        cores (float): of a machine, for its loaders.
        link (float): 10^9 bits a second that a machine sends and receives.
        storage (float): 10^9 bytes a second that all machines together read.
    """
    nodes: int = 1
    cores: float = None
    link: float = None
    storage: float = None


def demands(plan, machines, throughput):
    """What a run needs where its GPUs never wait.

    Args:
        plan (Plan): of the run.
        machines (Machines): that it has.
        throughput (float): images a second of one GPU.

    Returns:
        list[Quantity]: among them what `limit` compares: `read` by all
        machines, `loaders` of one, and `network`, if there are several.

    Raises:
        Refused: if the GPUs are no multiple of the machines.
    """
    nodes = machines.nodes
    if nodes < 1 or plan.gpus % nodes:
        raise Refused(f'--gpus {plan.gpus} --nodes {nodes}: expected are as '
                      'many GPUs in each of one or more machines')
    size, seconds, how = _cost_of_an_image(plan.training_set)
    rate = throughput * plan.gpus
    quantities = [
        Quantity('speed', rate, 'img/s', 'stated', 'of all GPUs'),
        Quantity('image', size, 'B', how, 'as it is stored'),
        Quantity('decoding', 1000 * seconds, 'ms', how, 'of one core'),
        Quantity('read', rate * size, 'B', how, 'a second, by all machines'),
        Quantity('loaders', rate / nodes * seconds, 'cores', how,
                 'of a machine'),
    ]
    if nodes > 1:
        sent, note = _sent(plan)
        seconds = plan.settings.batch_size / throughput  # of an iteration
        quantities += [
            Quantity('gradients', sent, 'B', 'counted',
                     f'sent by a machine in an iteration: {note}'),
            Quantity('network', sent / seconds, 'B', 'counted',
                     'a second, sent by a machine'),
        ]
    return quantities


def limit(quantities, machines):
    """A sentence: what keeps the GPUs waiting, and what to do about it.

    Args:
        quantities (list[Quantity]): of `demands`.
        machines (Machines): that there are.
    """
    needed = {quantity.name: quantity.value for quantity in quantities}
    has = dict(
        read=machines.storage and machines.storage * 1e9,
        loaders=machines.cores,
        network=machines.link and machines.link * 1e9 / 8)
    shares = {
        name: needed[name] / value
        for name, value in has.items() if value and name in needed
    }
    if not shares:
        return 'What machines need is not compared with what they have.'
    name = max(shares, key=shares.get)
    what, remedy = WHAT[name]
    if shares[name] > 1:
        return (f'{what} is the limit: it has {1 / shares[name]:.0%} of what '
                f'the GPUs ask for, and they wait the rest of the time. '
                f'{remedy}')
    return (f'Of {", ".join(shares)}, none makes the GPUs wait: {name} is '
            f'used most, to {shares[name]:.0%}.')


WHAT = dict(
    read=('The storage',
          'Copy the images to disks of the machines, in shards.'),
    loaders=('Decoding',
             'Take more cores for train_dataloader.num_workers, or store the '
             'images at the size that they are trained at.'),
    network=('The network between machines',
             'Raise optim_wrapper.accumulative_counts or the batch size, or '
             'take fewer machines with more GPUs each.'))


def _sent(plan):
    """Bytes that a machine sends in an iteration, and what they are.

    Processes form a ring, which leaves each machine once. So through its link
    goes what every process passes on: all but one part of a sum twice, and of
    what is gathered once.
    """
    share = (plan.gpus - 1) / plan.gpus
    trained = sum(p.numel() for p in plan.trained)
    if not plan.settings.sharded:
        # gradients of an update are summed once
        return 2 * share * 4 * trained / plan.accumulated, 'to be summed'
    each = (plan.gathered_dtype or torch.float32).itemsize
    weights = sum(p.numel() for p in plan.model.parameters())
    teachers = sum(p.numel() for network in teacher_backbones(plan.model)
                   for p in network.parameters()) * plan.shard_teacher
    # before a forward and before a backward; gradients are summed in fp32
    gathered = each * (2 * weights + teachers)
    return share * (gathered + 4 * trained), (
        'weights for forward and backward, the teacher\'s, gradients')


def _cost_of_an_image(dataset):
    """Bytes, seconds of a core, and how they are known.

    Args:
        dataset (Dataset): None if it is not there.
    """
    if dataset is None:
        return IMAGE_BYTES, 1 / IMAGES_A_CORE, 'assumed'
    indices = range(0, len(dataset), -(-len(dataset) // SAMPLED))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sizes, seconds = [], []
    for index in indices:
        with suppress(BrokenImage):
            path = dataset.get_data_info(index)['img_path']
            with errors_as_broken_image():
                sizes.append(len(read(path, MAX_PIXELS)))
        start = time.thread_time()
        dataset[index]
        seconds.append(time.thread_time() - start)
    torch.set_num_threads(threads)
    return mean(sizes), mean(seconds[1:] or seconds), 'measured'
