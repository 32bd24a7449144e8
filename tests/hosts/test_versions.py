"""Which versions of PyTorch and OpenMMLab mmfd takes, and which it refuses."""
import configparser
import re
import sys
from pathlib import Path

import pytest
from helpers.commands import refused
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mmfd.errors import Refused
from mmfd.hosts import versions

MAINTAINED = {
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmpretrain': '1.3.6'
}
ORIGINAL = {'mmengine': '0.10.7', 'mmcv-lite': '2.1.0', 'mmpretrain': '1.2.0'}


def install(folder, packages):
    """Their metadata, as pip leaves it."""
    for name, number in packages.items():
        info = folder / f'{name.replace("-", "_")}-{number}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n')


@pytest.fixture
def refusal(tmp_path, monkeypatch):
    """The message where these alone are installed, or None."""

    def check(packages):
        install(tmp_path, packages)
        monkeypatch.setattr(sys, 'path', [str(tmp_path)])
        try:
            versions.check()
        except Refused as error:
            return str(error)

    return check


@pytest.mark.parametrize('packages', [
    MAINTAINED,
    {
        **MAINTAINED, 'onedl-mmsegmentation': '1.4.2',
        'onedl-mmdetection': '3.5.1',
        'transformers': '4.57.6',
        'setuptools': '84.2.1'
    },
    ORIGINAL,
    {
        **ORIGINAL, 'mmsegmentation': '1.2.2',
        'mmdet': '3.3.0',
        'transformers': '4.51.3',
        'setuptools': '80.9.0'
    },
    {
        'mmengine-lite': '0.10.7',
        'mmcv': '2.1.0',
        'mmpretrain': '1.2.0'
    },
])
def test_either_line_is_accepted_whole(refusal, packages):
    assert refusal(packages) is None


@pytest.mark.parametrize('torch, torchvision, warning', [
    ('2.14.1', '0.29.1', None),
    ('2.15.0+cpu', '0.29.2', None),
    ('2.16.0', '0.29.2',
     'torch 2.16.0, torchvision 0.29.2: mmfd is tested with torch>=2.14.1,'
     '<2.16'),
    ('2.8.0', '0.23.0',
     'torch 2.8.0, torchvision 0.23.0: mmfd is tested with torch>=2.14.1,'
     '<2.16, torchvision>=0.29.1,<0.30'),
])
def test_an_untested_pytorch_is_one_line_of_warning_and_stops_nothing(
        refusal, caplog, torch, torchvision, warning):
    packages = dict(MAINTAINED, torch=torch, torchvision=torchvision)
    assert refusal(packages) is None
    assert caplog.messages == ([warning] if warning else [])


def test_a_pytorch_that_lacks_what_mmfd_calls_is_refused(refusal):
    message = refusal(dict(MAINTAINED, torch='2.6.0', torchvision='0.21.0'))
    assert message == ('torch 2.6.0, torchvision 0.21.0 are too old for mmfd: '
                       "pip install 'torch>=2.7'")


def test_the_installed_pytorch_is_a_tested_one(caplog):
    versions.check()
    assert not caplog.messages


def test_what_a_library_has_lost_is_told_with_its_version():
    message = str(versions.lacks('torch', 'Tensor.add'))
    assert re.fullmatch(
        r'torch 2\.\S+ has no Tensor.add: pip install .torch>=2.14.1,<2.16., '
        'with which mmfd is tested', message)


def test_both_lines_at_once_are_refused_and_either_can_be_kept(refusal):
    assert refusal(MAINTAINED | ORIGINAL) == (
        'onedl-mmengine 0.10.12, onedl-mmcv 2.3.6, onedl-mmpretrain 1.3.6, '
        'mmengine 0.10.7, mmcv-lite 2.1.0, mmpretrain 1.2.0 are of two lines '
        'of OpenMMLab with the same import names, which overwrite each other: '
        'keep one, by pip uninstall -y mmengine mmcv-lite '
        "mmpretrain; pip install --force-reinstall --no-deps 'onedl-mmengine"
        ">=0.10.12,<0.11' 'onedl-mmcv>=2.3.6,<2.4' 'onedl-mmpretrain>=1.3.6,"
        "<1.4', or by pip uninstall -y onedl-mmengine onedl-mmcv "
        "onedl-mmpretrain; pip install --force-reinstall --no-deps 'mmengine"
        ">=0.10.7,<0.11' 'mmcv-lite>=2.1,<2.2' 'mmpretrain>=1.2,<1.3'")


@pytest.mark.parametrize('packages, there, command', [
    (MAINTAINED | {
        'mmdet': '3.3.0'
    }, 'mmdet 3.3.0 are of two lines',
     'pip uninstall -y mmdet; .* --no-deps .mmengine>=.* .mmdet>=3.3,<3.4'),
    (ORIGINAL | {
        'mmcv-lite': '2.2.0'
    }, 'mmcv-lite 2.2.0', "pip install 'mmcv-lite>=2.1,<2.2'"),
    (ORIGINAL | {
        'transformers': '4.57.6',
        'setuptools': '84.2.1'
    }, 'transformers 4.57.6, setuptools 84.2.1',
     "pip install 'transformers<4.52' 'setuptools<81'"),
    (MAINTAINED | {
        'onedl-mmengine': '0.11.0rc1',
        'onedl-mmdetection': '4.0.0'
    }, 'onedl-mmengine 0.11.0rc1, .*onedl-mmdetection 4.0.0',
     "pip install 'onedl-mmengine>=0.10.12,<0.11' "
     "'onedl-mmdetection>=3.5.1,<3.6'"),
    ({
        'onedl-mmengine': '0.10.12'
    }, 'is onedl-mmengine 0.10.12, and',
     "pip install 'onedl-mmcv>=2.3.6,<2.4' 'onedl-mmpretrain>=1.3.6,<1.4'"),
    ({
        'mmengine': '0.10.7',
        'mmpretrain': '1.2.0'
    }, 'mmengine 0.10.7, mmpretrain 1.2.0',
     "pip install 'mmcv-lite>=2.1,<2.2'"),
    ({}, 'is nothing', "pip install 'onedl-mmengine>=0.10.12,<0.11'"),
])
def test_what_was_never_tested_is_refused_with_the_command_that_mends_it(
        refusal, packages, there, command):
    assert re.search(f'{there}.*: .*{command}', refusal(packages))


def test_tools_refuse_both_lines_at_once(tmp_path):
    install(tmp_path, MAINTAINED | ORIGINAL)
    message = refused(
        'train',
        'configs/demo/simclr_fd.py',
        '--data-root',
        tmp_path,
        before=f'import sys; sys.path.insert(0, {str(tmp_path)!r})')
    assert 'are of two lines of OpenMMLab' in message


def specifiers(text):
    """What a list of requirements says of each distribution."""
    lines = (line.partition('#')[0].strip() for line in text.splitlines())
    parsed = map(Requirement, filter(None, lines))
    return {each.name: each.specifier for each in parsed}


def test_setup_and_the_list_of_the_original_line_ask_for_what_is_accepted():
    setup = configparser.ConfigParser()
    setup.read('setup.cfg')
    ours = specifiers(setup['options']['install_requires'])
    tests = specifiers(setup['options.extras_require']['test'])
    original = specifiers(Path('requirements-openmmlab.txt').read_text())
    for name, numbers in (versions.MAINTAINED | versions.LEAST).items():
        assert (ours | tests)[name] == SpecifierSet(numbers)
    beside = (ours | tests).keys() - versions.MAINTAINED.keys()
    assert beside <= original.keys()
    pinned = {name for name in original if name in versions.ORIGINAL}
    assert pinned >= {*[*versions.ORIGINAL][:3]}
    for name in pinned:
        pin, = original[name]
        assert pin.operator == '==' and pin.version in SpecifierSet(
            versions.ORIGINAL[name])
    for name, bound in versions.BESIDE_ORIGINAL.items():
        assert bound in map(str, original[name])
