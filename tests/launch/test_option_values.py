"""What the text of an option means."""
import pytest

from mmfd.launch.option_values import value_of

VALUES = {
    'my dir/epoch_2.pth': 'my dir/epoch_2.pth',
    'a,b.pth': 'a,b.pth',
    'a (copy), [1].pth': 'a (copy), [1].pth',
    '3': 3,
    '-1e-3': -1e-3,
    'TRUE': True,
    'false': False,
    'None': None,
    "'None'": 'None',
    '"3"': '3',
    '': '',
    '[]': [],
    '(1,)': (1, ),
    '[1, 2.5]': [1, 2.5],
    '[my dir/a, b]': ['my dir/a', 'b'],
    '[(a,b),[c], d]': [('a', 'b'), ['c'], 'd'],
    "['a,b', \"c]\"]": ['a,b', 'c]'],
    '{}': {},
    '{type: BN, eps: 1e-6, axes: (0, 1)}':
    dict(type='BN', eps=1e-6, axes=(0, 1)),
    "{'a:b': None}": {
        'a:b': None
    },
}


@pytest.mark.parametrize('text', VALUES)
def test_only_what_begins_with_a_bracket_is_a_collection(text):
    value = value_of(text)
    assert (type(value), value) == (type(VALUES[text]), VALUES[text])


@pytest.mark.parametrize(
    'text', ['[1', '[', '(1]', '[1)2]', '[a][b]', "['a]", '{a}', '{a: b: c}'])
def test_brackets_and_quotes_that_do_not_match_are_an_error(text):
    with pytest.raises(ValueError, match='expected|missing|closes nothing'):
        value_of(text)
