"""What a config asks for, checked before anything is built."""
import pytest
from mmengine.config import Config

from mmfd.launch.config_checks import check_sharding


def test_shards_are_not_compiled():
    cfg = Config(
        dict(
            launcher='pytorch',
            compile=True,
            model={},
            model_wrapper_cfg=dict(type='mmfd.FullySharded')))
    with pytest.raises(ValueError, match='compile=True needs whole weights'):
        check_sharding(cfg)
    cfg.compile = False
    check_sharding(cfg)
