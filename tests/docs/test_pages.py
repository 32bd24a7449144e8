"""Links of the documentation lead somewhere, its site is built, versions."""
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
import yaml
from helpers.pages import PAGES, ROOT, anchors, links
from mmengine import registry
from mmengine.registry import Registry

import mmfd


def test_links_between_pages_lead_to_files_and_headings():
    count, broken = 0, []
    for page in PAGES:
        for path, anchor in links(page):
            count += 1
            if path.is_dir():
                path = path / 'README.md' if anchor else path
            if not path.exists() or anchor and anchor not in anchors(path):
                broken.append(f'{page.relative_to(ROOT)}: {path} {anchor}')
    assert count > 250 and not broken


def test_every_page_is_in_the_index():
    index = ROOT / 'docs/index.md'
    listed = {path.resolve() for path, _ in links(index)} | {index}
    assert not {*PAGES} - listed


def test_reference_has_every_class_that_configs_can_name():
    import mmfd.registry  # noqa: F401
    listed = set(
        re.findall(
            r'automodule:: (\S+)',
            ''.join(path.read_text()
                    for path in (ROOT / 'docs/api').glob('*.rst'))))
    ours = [
        root.children['mmfd'] for root in vars(registry).values()
        if isinstance(root, Registry) and 'mmfd' in root.children
    ]
    for each in ours:
        each.import_from_location()
    named = {
        cls.__module__
        for each in ours
        for cls in each.module_dict.values()
    }
    assert len(named) > 10 and not named - listed
    assert not [name for name in listed if not find_spec(name)]


def test_version_and_paper_to_cite_are_those_of_the_package():
    cff = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert cff['version'] == mmfd.__version__
    assert cff['authors'] == [{'name': 'mmfd contributors'}]
    [paper] = cff['references']
    line = ' '.join((ROOT / 'README.md').read_text().split())
    assert (f'*{paper["title"]}*, ICCV {paper["year"]}, pages '
            f'{paper["start"]} to {paper["end"]}') in line


def test_workflow_tests_every_python_that_the_package_allows():
    workflow = yaml.safe_load(
        (ROOT / '.github/workflows/test.yml').read_text())
    tested = workflow['jobs']['test']['strategy']['matrix']['python']
    allowed = re.findall(r'Python :: (3\.\d+)',
                         (ROOT / 'setup.cfg').read_text())
    assert tested == allowed
    steps = [
        step['run'] for job in workflow['jobs'].values()
        for step in job['steps'] if 'run' in step
    ]
    assert steps == ['make test', 'make docs']


@pytest.mark.full
def test_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip('furo')
    done = subprocess.run([
        sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-c',
        'docs', '.', tmp_path
    ],
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / 'docs/index.html').exists()
