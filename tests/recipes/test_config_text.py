"""The text of a config says what it is given."""
import ast

from hypothesis import given, settings
from hypothesis import strategies as st

from mmfd.recipes.config_text import code, config_text

LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.floats(
    allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    LEAVES,
    lambda part: st.lists(part) | st.lists(part).map(tuple) | st.dictionaries(
        st.text(), part),
    max_leaves=9)


@given(VALUES)
@settings(max_examples=50, deadline=None)
def test_code_is_the_value(value):
    assert eval(code(value)) == value


def test_names_of_any_letters_stay_within_the_docstring():
    text = config_text('"""', 'mmfd distill --data "a\\n"""b\\"', ['c'],
                       'x.py', 'size = (1, 2)')
    docstring = ast.get_docstring(ast.parse(text))
    assert 'mmfd distill --data "a\\n"""b\\"' in docstring
