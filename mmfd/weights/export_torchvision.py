"""Students in torchvision: its own names, without a classifier."""
from mmfd.weights.exported import Exported
from mmfd.weights.loaded_student import own_weights


def named_to_torchvision(student):
    """The network within `mmfd.TorchvisionNetwork`.

    torchvision builds none without a classifier: the layers for which there
    are no weights are replaced by an identity.
    """
    # not at the top: whoever exports to another library would wait for it
    from torchvision.models import get_model
    name = student.config['name']
    config = dict(student.config.get('model_args') or {}, weights=None)
    if student.backbone.input_size:
        config['image_size'] = student.backbone.input_size[0]
    weights = own_weights(student, 'network.')
    missing = get_model(name, **config).state_dict().keys() - weights.keys()
    layers = sorted({key.rpartition('.')[0] for key in missing})

    def loading(built, path, weights):
        lines = [
            f'model.set_submodule({layer!r}, torch.nn.Identity())'
            for layer in layers
        ]
        return '\n'.join(
            [f'model = {built}', *lines, f'model.load_state_dict({weights})'])

    call = f'torchvision.models.get_model({name!r}, {{}})'
    return Exported(weights, config, call, loading)
