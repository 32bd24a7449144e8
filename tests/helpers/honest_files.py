"""What people save beside their weights, and whole files of others."""
import argparse
import collections
import datetime
import decimal
import fractions
import gzip
import pickle
import random
import sys
import tarfile
import types
import uuid
import zipfile
from contextlib import contextmanager
from functools import partial
from unittest import mock

import numpy as np
import torch
from helpers import corpus, foreign
from helpers.openai_clip import write_clip
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import lr_scheduler


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(5))


def trained(make=torch.optim.AdamW):
    """A network and its optimizer after a step."""
    net = network()
    net(torch.ones(2, 3, 5, 5))
    optimizer = make(net.parameters(), lr=.1)
    net(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    return net, optimizer


def lightning():
    net, optimizer = trained()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 7])
    return {
        'epoch': 3,
        'global_step': 1200,
        'pytorch-lightning_version': '2.5.1',
        'state_dict': {
            f'model.{k}': v
            for k, v in net.state_dict().items()
        },
        'loops': dict(fit_loop=dict(state_dict={})),
        'callbacks': {
            "ModelCheckpoint{'monitor': 'val'}":
            dict(best_model_score=torch.tensor(.5), kth_value=None)
        },
        'optimizer_states': [optimizer.state_dict()],
        'lr_schedulers': [schedule.state_dict()],
        'hparams_name': 'kwargs',
        'hyper_parameters': dict(lr=1e-3, betas=(.9, .999), name=b'vit'),
    }


def mmengine():
    net, optimizer = trained()
    history = HistoryBuffer([.5, .25], [1, 1], 1000)
    return dict(
        meta=dict(
            epoch=1,
            iter=20,
            seed=np.int64(3),
            dataset_meta=dict(classes=('cat', 'dog'), palette=[(1, 2, 3)])),
        state_dict=net.state_dict(),
        message_hub=dict(
            log_scalars={'train/loss': history},
            runtime_info=dict(best=np.float32(.5), loop_stage='train'),
            resumed_keys={'train/loss': True}),
        optimizer=optimizer.state_dict(),
        param_schedulers=[])


def official():
    """As MAE, DeiT and DINO save."""
    net, optimizer = trained(torch.optim.SGD)
    args = argparse.Namespace(lr=.1, device=torch.device('cpu'), path=None)
    return dict(
        model=net.state_dict(),
        optimizer=optimizer.state_dict(),
        scaler=dict(scale=65536., growth_factor=2.),
        args=args,
        epoch=3)


def random_states():
    return dict(
        w=torch.ones(2),
        torch_rng=torch.get_rng_state(),
        numpy_rng=np.random.get_state(),
        array=np.arange(6.).reshape(2, 3),
        nothing=np.array([]),
        flag=np.bool_(True))


def shared():
    one = torch.arange(64.)
    return dict(
        w=one,
        tied=one,
        part=one[7:20],
        turned=one.view(8, 8).T,
        steps=one[::3],
        expanded=one[:1].expand(4),
        empty=torch.zeros(0, 3),
        number=torch.tensor(3.))


def parameters():
    net = network()
    net(torch.ones(2, 3, 5, 5))
    attributed = nn.Parameter(torch.ones(2))
    attributed.lr_scale = .5
    buffer = nn.Buffer(torch.ones(3))
    return {**dict(net.named_parameters()), 'a': attributed, 'b': buffer}


def dtypes():
    kinds = (torch.bfloat16, torch.float16, torch.float64, torch.int64,
             torch.int32, torch.int16, torch.uint8, torch.uint16, torch.bool,
             torch.float8_e4m3fn, torch.float8_e5m2)
    return {f'{kind}': torch.ones(5).to(kind) for kind in kinds}


KINDS = {
    'state_dict':
    lambda: trained()[0].state_dict(),
    'plain_dict':
    lambda: dict(trained()[0].state_dict()),
    'below_model':
    lambda: dict(model=trained()[0].state_dict(), epoch=1),
    'lightning':
    lightning,
    'mmengine':
    mmengine,
    'official':
    official,
    'random_states':
    random_states,
    'shared':
    shared,
    'parameters':
    parameters,
    'dtypes':
    dtypes,
    'data_parallel':
    lambda: nn.DataParallel(trained()[0]).state_dict(),
    'sizes':
    lambda: dict(w=torch.ones(1), shapes={'w': torch.Size([1, 2])}),
    'facts':
    lambda: dict(
        w=torch.ones(1),
        text='ünïcödé 😀',
        numbers=[0, -1, 255, 65536, -2**31, 2**40, 1e-9,
                 float('inf')],
        nested=[[({}, [], ())]],
        set={1, 2},
        frozen=frozenset([1]),
        counter=collections.Counter(a=1),
        begun=datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
        took=datetime.timedelta(1),
        options=types.SimpleNamespace(a=1),
        imaginary=1j,
        version=torch.__version__,  # of a class of its own
        name=uuid.UUID(int=5),
        exact=[decimal.Decimal('1.5'),
               fractions.Fraction(1, 3)],
        part=slice(1, 2),
        dtype=torch.bfloat16,
        none=None,
        flags=(True, False),
        keys={
            (1, 2): 'a',
            ('b', True): 1,
            torch.float16: 2
        },
        queue=collections.deque([1, 2], 5),
        lists=collections.defaultdict(list, a=[1]),
        changeable=bytearray(b'ab'),
        long='x' * 1000,
        data=bytes(range(256))),
}

# --- whole files, of which the weights are known ---

ABSENT = {  # classes of libraries that are not installed -> what they extend
    'addict.addict.Dict': dict,
    'deepspeed.runtime.fp16.loss_scaler.LossScaler': object,
    'lightning.fabric.utilities.data.AttributeDict': dict,
    'omegaconf.dictconfig.DictConfig': object,
    'pytorch_lightning.utilities.parsing.AttributeDict': dict,
}


def absent(name):
    """A class with the name that it has in a library."""
    module, _, name = name.rpartition('.')
    return type(name, (ABSENT[f'{module}.{name}'], ),
                dict(__module__=module, __qualname__=name))


@contextmanager
def importable(*classes):
    """Within it, classes can be pickled by their names."""
    modules = {}
    for cls in classes:
        parts = cls.__module__.split('.')
        for i in range(len(parts)):
            name = '.'.join(parts[:i + 1])
            modules.setdefault(name, types.ModuleType(name))
        setattr(modules[cls.__module__], cls.__name__, cls)
    with mock.patch.dict(sys.modules, modules):
        yield


def weights():
    return trained()[0].state_dict()


def saved(path, content, expected=None, classes=(), **options):
    """Write what `torch.save` does; return the path and its weights."""
    with importable(*classes):
        torch.save(content, path, **options)
    return path, weights() if expected is None else expected


def beside(**content):
    """What writes a file with weights and something beside them."""
    return lambda path: saved(path, dict(state_dict=weights(), **content))


def of_optimizer(make, **kwargs):

    def write(path):
        net, optimizer = trained(make, **kwargs)
        return saved(
            path,
            dict(
                state_dict=net.state_dict(), optimizer=optimizer.state_dict()),
            net.state_dict())

    return write


def of_schedule(make):

    def write(path):
        schedule = make(trained()[1])
        schedule.step()
        return beside(lr_scheduler=schedule.state_dict())(path)

    return write


def openai(path):
    write_clip(path)
    return path, torch.jit.load(path).state_dict()


def script(path):
    net = trained()[0]
    torch.jit.save(torch.jit.script(net), path)
    return path, net.state_dict()


def of_safetensors(path):
    save_file(weights(), path)
    return path, weights()


def timm(path):
    model = foreign.timm_vit()
    save_file(model.state_dict(), path, metadata=dict(format='pt'))
    return path, model.state_dict()


SMALL = '200KB'  # of a shard


def hugging_face(safe, shard='5GB'):

    def write(path):
        model = foreign.hf_vit(foreign.TINY)
        model.save_pretrained(
            path, safe_serialization=safe, max_shard_size=shard)
        assert any(path.glob('*.index.json')) == (shard == SMALL)
        # transformers 5 saves other names than its networks have
        expected = {}
        for file in path.glob('*.safetensors'):
            expected.update(load_file(file))
        for file in path.glob('*.bin'):
            expected.update(torch.load(file, weights_only=True))
        assert len(expected) == len(model.state_dict())
        return path, expected

    return write


def open_clip(path):
    model = foreign.open_clip_model(foreign.TINY)
    optimizer = torch.optim.AdamW([
        dict(params=[*model.parameters()][:3], weight_decay=0.),
        dict(params=[*model.parameters()][3:])
    ])
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    prefixed = {f'module.{k}': v for k, v in model.state_dict().items()}
    return saved(
        path,
        dict(
            epoch=3,
            name='run',
            state_dict=prefixed,
            optimizer=optimizer.state_dict(),
            scaler=torch.amp.GradScaler('cpu').state_dict()), prefixed)


def lightning_with_options(of):

    def write(path):
        cls = absent(of)
        content = dict(
            lightning(),
            hyper_parameters=cls(lr=np.float64(.1), inner=cls(a=[1])),
            datamodule_hparams_name='kwargs')
        return saved(path, content, content['state_dict'], [cls])

    return write


def deepspeed(path):
    cls = absent('deepspeed.runtime.fp16.loss_scaler.LossScaler')
    content = dict(
        module=weights(),
        buffer_names=[],
        optimizer=dict(loss_scaler=cls(), dynamic_loss_scale=True),
        param_shapes=[
            collections.OrderedDict((k, v.shape) for k, v in weights().items())
        ],
        sparse_tensor_module_names=set(),
        ds_config={'train_batch_size': 8},
        dp_world_size=2,
        shared_params={})
    return saved(path, content, classes=[cls])


def fairseq(path):
    options = argparse.Namespace(
        arch='vit', betas='(0.9, 0.98)', inner=argparse.Namespace(a=[None]))
    return saved(
        path,
        dict(
            args=options,
            model=weights(),
            optimizer_history=[
                dict(optimizer_name='FairseqAdam', num_updates=3)
            ],
            extra_state=dict(train_iterator=dict(epoch=1), metrics=[])))


def fairseq_of_hydra(path):
    cls = absent('omegaconf.dictconfig.DictConfig')
    options = cls()
    options.parent = [options]  # a circle, as omegaconf has them
    return saved(path, dict(cfg=options, model=weights()), classes=[cls])


def mmcv(path):
    cls = absent('addict.addict.Dict')
    return saved(
        path,
        dict(
            meta=dict(CLASSES=('a', 'b'), cfg=cls(a=cls(b=1)), time='Mon'),
            state_dict=weights()),
        classes=[cls])


def python_2(path):
    """Strings of bytes, and an OrderedDict that is called with pairs."""
    content = corpus.Calls(collections.OrderedDict,
                           [[k, v] for k, v in weights().items()])
    torch.save(content, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    for name in weights():  # BINUNICODE and its length become BINSTRING
        text = corpus.text(name)
        data = data.replace(text, b'T' + text[1:])
    path.write_bytes(data)
    return path, weights()


def numpy_1(path):
    """Arrays and numbers by the names that NumPy 1 gave its modules."""
    content = dict(random_states(), best=np.float32(.5), model=weights())
    torch.save(content, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes().replace(b'cnumpy._core.', b'cnumpy.core.')
    assert b'numpy.core.multiarray' in data
    path.write_bytes(data)
    return path, weights()


def in_protocol(number, **options):
    return lambda path: saved(
        path,
        dict(random_states(), state_dict=weights(), facts=KINDS['facts']()),
        pickle_protocol=number,
        **options)


def misnamed(name):
    return lambda path: of_safetensors(path.with_name(name))


OLDER = dict(_use_new_zipfile_serialization=False)
OPTIMIZERS = ('SGD', 'Adam', 'AdamW', 'Adagrad', 'RMSprop', 'NAdam',
              'Adafactor', 'Rprop')
SCHEDULES = dict(
    LambdaLR=dict(lr_lambda=lambda epoch: .5),
    OneCycleLR=dict(max_lr=.1, total_steps=10),
    MultiStepLR=dict(milestones=[1, 2, 2]),
    CosineAnnealingWarmRestarts=dict(T_0=3))
ORIGINS = {
    'OpenAI':
    openai,
    'TorchScript':
    script,
    'safetensors':
    of_safetensors,
    'safetensors called .pth':
    misnamed('weights.pth'),
    'timm':
    timm,
    'Hugging Face':
    hugging_face(True),
    'Hugging Face in shards':
    hugging_face(True, SMALL),
    'Hugging Face in .bin':
    hugging_face(False),
    'Hugging Face in shards of .bin':
    hugging_face(False, SMALL),
    'open_clip':
    open_clip,
    'Lightning 1':
    lightning_with_options(
        'pytorch_lightning.utilities.parsing.AttributeDict'),
    'Lightning 2':
    lightning_with_options('lightning.fabric.utilities.data.AttributeDict'),
    'DeepSpeed':
    deepspeed,
    'fairseq':
    fairseq,
    'fairseq with hydra':
    fairseq_of_hydra,
    'mmcv':
    mmcv,
    'mmengine':
    lambda path: saved(path, mmengine()),
    'mmengine with its config':
    beside(meta=dict(cfg=ConfigDict(a=dict(b=1)))),
    'MAE':
    lambda path: saved(path, official(),
                       official()['model']),
    'Python 2':
    python_2,
    'NumPy 1':
    numpy_1,
    'protocol 3':
    in_protocol(3),
    'protocol 4':
    in_protocol(4),
    'protocol 5':
    in_protocol(5),
    'protocol 5, before 1.6':
    in_protocol(5, **OLDER),
    'before 1.6':
    lambda path: saved(path, weights(), **OLDER),
    'averages':
    lambda path: saved(
        path,
        torch.optim.swa_utils.AveragedModel(trained()[0]).state_dict(),
        {'n_averaged': torch.tensor(0)} | {
            f'module.{k}': v
            for k, v in weights().items()
        }),
    'random generator':
    beside(
        rng=dict(
            numpy=np.random.default_rng(0).bit_generator.state,
            python=random.getstate())),
    **{
        f'optimizer {name}': of_optimizer(getattr(torch.optim, name))
        for name in OPTIMIZERS
    },
    **{
        f'schedule {name}':
        of_schedule(partial(getattr(lr_scheduler, name), **kwargs))
        for name, kwargs in SCHEDULES.items()
    },
}

# --- files that hold no weights that can be read, and what is said of them ---


def raw(content):
    return lambda path: path.write_bytes(content)


def torch_saved(make):
    return lambda path: torch.save(make(), path)


def tarred(path):
    """As PyTorch wrote in 2016, and as people pack a file."""
    with tarfile.open(path, 'w') as archive:
        archive.addfile(tarfile.TarInfo('sys_info'))


def zipped(*names):

    def write(path):
        with zipfile.ZipFile(path, 'w') as archive:
            for name in names:
                archive.writestr(name, 'content')

    return write


def endless():
    content = dict(w=torch.ones(1))
    content['itself'] = content
    return content


NO_WEIGHTS = {
    'tar': (tarred, 'is a tar archive: unpack it'),
    'gzip': (raw(gzip.compress(b'weights')), 'is compressed: unpack it'),
    'HDF5': (raw(b'\x89HDF\r\n\x1a\n' + bytes(99)), 'is of HDF5, as Keras'),
    'ONNX': (raw(b'\x08\x08\x12\x07pytorch\x1a\x052.5.1' + bytes(99)),
             'is a graph of operations, as ONNX, TensorFlow and Core'),
    'TFLite': (raw(b'\x1c\0\0\0TFL3' + bytes(99)), 'is a graph of operations'),
    'SavedModel': (raw(b'\x08\x01\x12\xa4\x05\n\x8d' + bytes(99)),
                   'is a graph of operations'),
    'msgpack': (raw(b'\x82\xa6params\x81\xa7encoder' + bytes(99)),
                'is of msgpack, as Flax saves weights'),
    'JSON': (raw(b'{"error": "too many downloads"}'), r'is a text \(JSON\)'),
    'zip of a file': (zipped('vit.pth', 'readme.txt'),
                      'is a zip archive of vit.pth, readme.txt, none of them '
                      'data.pkl: if one of them holds the weights, unpack it'),
    'GGUF': (raw(b'GGUF' + bytes(99)), 'is of llama.cpp'),
    'pickle': (raw(pickle.dumps(dict(w=[1.]), 2)),
               'is a pickle that torch.save has not written'),
    'protocol 0': (raw(pickle.dumps(dict(w=[1.]), 0)),
                   r'an operation of which weights have none \(DICT\)'),
    'module': (torch_saved(network),
               r'a Python object \(torch.nn.modules.container.Sequential\)'),
    'sparse': (torch_saved(lambda: dict(w=torch.eye(3).to_sparse())),
               'a tensor that is sparse, quantised or'),
    'quantised': (torch_saved(lambda: dict(w=torch.quantize_per_tensor(
        torch.ones(2), .1, 0, torch.qint8))),
                  'a tensor that is sparse, quantised or'),
    'conjugate': (torch_saved(
        lambda: dict(w=torch.ones(2, dtype=torch.complex64).conj())),
                  'a tensor that is a conjugate or a negative'),
    'tensor as a key': (torch_saved(lambda: {torch.ones(1): 1}),
                        'a dict with a key that is no .* but a Tensor'),
    'nested tuple as a key': (torch_saved(
        lambda: dict(w=torch.ones(1), cache={((1, 2), 3): 1})),
                              'a dict with a key that is no .* but a tuple'),
    'circle': (torch_saved(endless), 'within each other, deeper than 100 or'),
}  # yapf: disable
