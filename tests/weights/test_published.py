"""The list of published files, as tools/convert.py --list prints it."""
from helpers.commands import command

from mmfd.weights.convert import CONVERTERS
from mmfd.weights.published import PUBLISHED


def test_list_shows_every_published_file_on_a_line():
    head, *lines = command('convert', '--list').split('\n\n')[0].split('\n')
    assert head.split() == ['KIND', 'FILE', 'LICENCE', 'SHA256', 'ADDRESS']
    assert [line.split() for line in lines] == [[
        row.kind, row.file, row.licence, row.sha256 or 'unknown', row.url
    ] for row in PUBLISHED]


def test_published_sums_are_those_that_the_addresses_hold():
    for row in PUBLISHED:
        assert row.url.startswith('https://') and row.file and row.licence
        if row.kind in ('openai-clip', 'deit', 'open-clip'):
            assert row.sha256[:8] in row.url
        assert len(row.sha256) in (0, 8, 64)
        assert not set(row.sha256) - set('0123456789abcdef')
    assert len({row.url for row in PUBLISHED}) == len(PUBLISHED)


def test_every_kind_has_a_file_that_is_published():
    assert set(CONVERTERS) <= {row.kind for row in PUBLISHED}
