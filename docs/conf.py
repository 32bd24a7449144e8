"""The documentation site: `make docs` writes it to build/docs.

Its sources are the Markdown pages of the whole repository, which are read on
the code host, too. So the root of the repository is the source folder, and a
link is right in both places.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import mmfd  # noqa: E402
from mmfd.hosts import mmcv_ops  # noqa: E402

mmcv_ops.install()  # before the modules are imported for their docstrings

project, author = 'mmfd', 'mmfd contributors'
project_copyright = author
version = release = mmfd.__version__

root_doc = 'docs/index'
include_patterns = [
    '*.md', 'docs/**.md', 'docs/api/*.rst', 'configs/**/README.md',
    'benchmarks/README.md', 'evidence/README.md'
]
exclude_patterns = [
    '.[!.]*', 'build', 'data', 'work_dirs', 'checkpoints', 'mmfd', 'tests',
    'docs/templates'
]
templates_path = ['templates']
# Two modules may have a class of one name, which a type alone does not tell
suppress_warnings = ['config.cache', 'ref.python']

extensions = [
    'myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon',
    'sphinx.ext.viewcode'
]
myst_heading_anchors = 3
autodoc_default_options = dict(members=True)
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'
autodoc_inherit_docstrings = False  # those of the host libraries
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = 'code'  # `name` in docstrings

html_theme = 'furo'
html_title = f'mmfd {release}'
html_favicon = 'images/favicon.svg'
html_additional_pages = {'index': 'index.html'}  # leads to docs/index.html

LINK = re.compile(r'\[([^]]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)')


def link_pages(app, docname, source):
    """Let links to a folder lead to its README, as on the code host."""
    folder = Path(app.srcdir, docname).parent

    def page(link):
        text, path, anchor = link.groups(default='')
        if not (folder / path).is_dir():
            return link[0]
        readme = folder / path / 'README.md'
        return f'[{text}]({path}/README.md{anchor})' if readme.exists() else (
            text)

    source[0] = LINK.sub(page, source[0])


def contents(app, docname, source):
    """Make the table of contents of the lists of links in the index."""
    if docname != root_doc:
        return
    for section in re.split('^## ', source[0], flags=re.M)[1:]:
        title, links = section.partition('\n')[0], LINK.findall(section)
        entries = ''.join(f'{text} <{path.removesuffix(".md")}>\n'
                          for text, path, _ in links)
        source[0] += (f'\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n'
                      f'{entries}```\n')


def setup(app):
    app.connect('source-read', link_pages)
    app.connect('source-read', contents)
