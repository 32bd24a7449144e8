"""Networks with initial weights, and files of weights to start from."""
from mmengine.registry import MODELS

from mmfd.weights import checkpoints


def initialised(config):
    model = MODELS.build(config)
    model.init_weights()
    return model


def saved(model, file, prefix=''):
    """Write a file of weights; the `init_cfg` that loads it."""
    checkpoints.save(
        {
            prefix + name: value
            for name, value in model.state_dict().items()
        }, file, {})
    return dict(type='Pretrained', checkpoint=str(file), prefix=prefix)
