"""mmpretrain's import beside a transformers that it was not made for."""
import subprocess
import sys

import pytest

NETWORK = '''
from mmengine.registry import MODELS
print(MODELS.build(dict(type='mmpretrain.ResNet', depth=18)).depth)
'''
ALL = '''
import mmpretrain.datasets
import mmpretrain.models
from mmpretrain.utils.dependency import WITH_MULTIMODAL
print(WITH_MULTIMODAL)
'''


@pytest.fixture
def run(tmp_path):
    """Run a program in a fresh interpreter: the last line that it wrote.

    Args:
        version (str): of a transformers that has nothing that is imported.
    """

    def run(program, version=None):
        if version:
            (tmp_path / 'transformers').mkdir()
            (tmp_path / 'transformers' / '__init__.py').touch()
            info = tmp_path / f'transformers-{version}.dist-info'
            info.mkdir()
            (info / 'METADATA').write_text(
                f'Metadata-Version: 2.1\nName: transformers\n'
                f'Version: {version}\n')
        program = (f'import sys; sys.path.insert(0, {str(tmp_path)!r})' +
                   program)
        done = subprocess.run([sys.executable, '-W', 'ignore', '-c', program],
                              capture_output=True,
                              text=True)
        return (done.stderr
                if done.returncode else done.stdout).splitlines()[-1]

    return run


@pytest.mark.parametrize(
    'version',
    ['5.24.0', pytest.param('5.0.0rc1', marks=pytest.mark.full)])
def test_networks_of_mmpretrain_are_built_beside_transformers_5(run, version):
    assert run('\nimport mmfd' + NETWORK, version) == '18'


@pytest.mark.full
def test_multimodal_models_stay_where_mmpretrain_can_import_them(run):
    alone, ours = run(ALL), run('\nimport mmfd' + ALL)
    if alone in ('True', 'False'):
        assert ours == alone
    else:  # beside a transformers 5
        assert (alone, ours) == ('TypeError: NoneType takes no arguments',
                                 'False')


@pytest.mark.full
def test_mmpretrain_relies_on_transformers_where_it_finds_one(run):
    """Once this fails, mmpretrain can do without us."""
    pytest.importorskip('pycocotools')
    assert 'transformers' in run(NETWORK, '5.24.0')


def test_mmfd_is_imported_without_any_host(run):
    imported = {*run('\nimport mmfd; print(*sys.modules)').split()}
    assert 'mmfd.hosts.multimodal' in imported
    assert not {'torch', 'numpy', 'mmengine', 'mmpretrain'} & imported
