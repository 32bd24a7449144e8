"""`type=` names a class, or the nearest name is proposed."""
import pytest
from torch.optim import AdamW

from mmfd.launch.checks.type_names import find_class, no_such_type
from mmfd.teacher import Teacher


@pytest.mark.parametrize('name, cls', [
    ('mmfd.Teacher', Teacher),
    ('AdamW', AdamW),
    ('Teacher', None),
    ('nowhere.Teacher', None),
    ('', None),
    ('.x', None),
    ('a..b', None),
    ('mmfd.', None),
])
def test_class_is_found_by_library_and_name(name, cls):
    assert find_class(name, 'mmpretrain') is cls


def test_name_without_a_library_is_of_the_default_scope():
    assert find_class('Teacher', 'mmfd') is Teacher


@pytest.mark.parametrize('name, nearest', [
    ('mmfd.Teachr', 'mmfd.Teacher'),
    ('AdamWW', 'AdamW'),
])
def test_nearest_name_is_proposed(name, nearest):
    assert no_such_type(name) == (
        f'nothing is called type={name!r}; did you mean {nearest!r}?')


def test_name_like_no_other_is_answered_with_where_to_look():
    assert no_such_type('Qqqqqqqqqq').endswith(
        ': check its spelling and custom_imports')


def test_name_of_another_registry_is_answered_with_both_kinds():
    assert no_such_type('mmfd.NanGuardHook', 'model') == (
        "type='mmfd.NanGuardHook' is the name of a hook, and that of a model "
        'is expected')
    assert no_such_type('mmfd.Teachr',
                        'model').endswith("did you mean 'mmfd.Teacher'?")
