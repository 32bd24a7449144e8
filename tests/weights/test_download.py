"""Addresses, served on this machine: fetched once, whole, or not at all."""
import hashlib
import io
import re
import resource
import runpy
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors import safe_open
from test_checkpoints import Clip
from test_convert import TINY, hf_clip, timm_vit
from test_tools import refused

from mmfd.errors import Refused
from mmfd.weights import checkpoints, download, published, weight_files
from mmfd.weights.convert import CONVERTERS
from mmfd.weights.published import PUBLISHED, Published


class Site:
    """A web server whose pages are functions that answer a request."""

    def __init__(self):
        site = self
        self.pages, self.asked = {}, []

        class Handler(BaseHTTPRequestHandler):

            def do_GET(self):
                site.asked.append(self.path)
                site.pages.get(self.path.partition('?')[0], missing)(self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(
            target=self.server.serve_forever, args=(0.02, ),
            daemon=True).start()

    def put(self, path, content):
        self.pages[path] = content if callable(content) else whole(content)
        return self.url + path


def missing(request):
    request.send_error(404)


def broken(request):
    request.send_error(503)


def whole(content, kind='application/octet-stream', size=None):

    def page(request):
        request.send_response(200)
        request.send_header('Content-Type', kind)
        request.send_header('Content-Length', size or len(content))
        request.end_headers()
        request.wfile.write(content)

    return page


def without_length(content):

    def page(request):
        request.send_response(200)
        request.end_headers()
        request.wfile.write(content)

    return page


def chunks(request):
    """Says that there is more, and ends."""
    request.protocol_version = 'HTTP/1.1'
    request.send_response(200)
    request.send_header('Transfer-Encoding', 'chunked')
    request.end_headers()
    request.wfile.write(b'64\r\n' + bytes(50))
    request.close_connection = True


def led_to(address):

    def page(request):
        request.send_response(302)
        request.send_header('Location', address)
        request.end_headers()

    return page


@pytest.fixture
def site():
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('no_proxy', '*')
    return tmp_path / 'cache' / 'mmfd' / 'weights'


def files_in(folder):
    return sorted(x for x in folder.rglob('*') if not x.is_dir())


def saved(weights):
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def convert(monkeypatch, *args):
    """The tool in this process."""
    monkeypatch.setattr(sys, 'argv', ['convert', *map(str, args)])
    runpy.run_path('tools/convert.py', run_name='__main__')


# --- what works ---


def test_address_is_converted_like_its_file(site, tmp_path, monkeypatch,
                                            capfd):
    weights = dict(model=timm_vit(classes=5).state_dict())
    content, out = saved(weights), tmp_path / 'deit.pth'
    url = site.put('/deit/deit.pth', content)
    convert(monkeypatch, 'deit', f'{url}?key=secret', out)
    file = checkpoints.load(out)
    assert file['meta'] == dict(
        kind='deit',
        source='deit.pth',
        url=url,
        sha256=sha256(content),
        licence='unknown')
    expected = CONVERTERS['deit'](weights['model'])
    assert file['state_dict'].keys() == expected.keys()
    assert all(
        torch.equal(file['state_dict'][k], expected[k]) for k in expected)
    said = capfd.readouterr()
    assert re.search(r'deit.pth: 100%.* [\d.]+M/[\d.]+M \[.*<00:00, ',
                     said.err)
    assert f'source sha256 {sha256(content)}, licence unknown' in said.out


def test_published_file_brings_its_licence_and_must_have_its_sum(
        site, tmp_path, monkeypatch, cache):
    content = saved(Clip().state_dict())
    url = site.put('/clip/ViT.pt', content)
    row = Published('openai-clip', f'{site.url}/clip', 'ViT.pt', 'MIT',
                    sha256(content))
    monkeypatch.setattr(published, 'PUBLISHED', [row])
    convert(monkeypatch, 'openai-clip', url, tmp_path / 'clip.safetensors')
    with safe_open(tmp_path / 'clip.safetensors', 'pt') as file:
        meta = file.metadata()
    assert meta == dict(
        kind='openai-clip',
        source='ViT.pt',
        url=url,
        sha256=sha256(content),
        licence='MIT')
    (tmp_path / 'mine.pt').write_bytes(content)  # known by its sum
    convert(monkeypatch, 'openai-clip', tmp_path / 'mine.pt',
            tmp_path / 'clip.pth')
    meta = checkpoints.load(tmp_path / 'clip.pth')['meta']
    assert (meta['url'], meta['licence']) == (url, 'MIT')

    site.put('/clip/ViT.pt', content + b'x')
    for file in files_in(cache):
        file.unlink()
    said = refused(monkeypatch, 'convert', 'openai-clip', url,
                   tmp_path / 'other.pth')
    assert f'has sha256 {sha256(content + b"x")}, expected was' in said
    assert not files_in(cache) and not (tmp_path / 'other.pth').exists()


def test_kept_file_is_compared_and_not_fetched_again(site, cache):
    url = site.put('/a/w.pth', b'weights')
    path = download.fetch(url)
    assert path.read_bytes() == b'weights'
    assert download.fetch(url, [sha256(b'weights')]) == path
    assert site.asked == ['/a/w.pth']
    assert files_in(cache) == [path, path.with_name('w.pth.sha256')]


def test_kept_file_that_has_changed_is_fetched_again(site):
    url = site.put('/a/w.pth', b'weights')
    path = download.fetch(url)
    path.write_bytes(b'weightz')
    assert download.fetch(url).read_bytes() == b'weights'
    site.put('/a/w.pth', b'new weights')  # its authors changed it
    assert download.fetch(url).read_bytes() == b'weights'
    path = download.fetch(url, [sha256(b'new weights')])
    assert path.read_bytes() == b'new weights'
    assert len(site.asked) == 3


def test_failed_fetch_leaves_what_was_kept(site):
    url = site.put('/a/w.pth', b'weights')
    path = download.fetch(url)
    with pytest.raises(ValueError, match='expected was 1234'):
        download.fetch(url, ['1234'])
    assert path.read_bytes() == b'weights'
    assert download.fetch(url) == path


def test_first_digits_of_a_sum_are_compared_too(site):
    content = b'weights'
    url = site.put('/w.pth', content)
    assert download.fetch(url, [sha256(content)[:8].upper()])
    with pytest.raises(ValueError, match='expected was b5f2ef4d'):
        download.fetch(url, ['b5f2ef4d'])


def test_files_of_one_name_from_two_addresses_stay_apart(site):
    one, two = (
        download.fetch(site.put(f'/{x}/w.pth', x.encode())) for x in 'ab')
    assert (one.read_bytes(), two.read_bytes()) == (b'a', b'b')
    assert one.name == two.name == 'w.pth'


def test_redirection_is_followed_and_a_length_is_not_needed(site):
    site.put('/store/x', without_length(b'weights'))
    url = site.put('/w.pth', led_to('/store/x'))
    assert download.fetch(url).read_bytes() == b'weights'


def test_shards_of_an_address_are_fetched_beside_their_list(
        site, tmp_path, monkeypatch):
    model = hf_clip(TINY)
    model.save_pretrained(tmp_path / 'clip', max_shard_size='200KB')
    for file in (tmp_path / 'clip').iterdir():
        site.put(f'/clip/{file.name}', file.read_bytes())
    url = f'{site.url}/clip/model.safetensors.index.json?download=true'
    convert(monkeypatch, 'hf-clip', url, tmp_path / 'clip.pth')
    file = checkpoints.load(tmp_path / 'clip.pth')
    expected = CONVERTERS['hf-clip'](model.state_dict())
    assert all(
        torch.equal(file['state_dict'][k], expected[k]) for k in expected)
    assert file['meta']['sha256'] == weight_files.sha256(tmp_path / 'clip')
    asked = len(site.asked)
    convert(monkeypatch, 'hf-clip', url, tmp_path / 'clip.pth')
    assert len(site.asked) == asked

    shard = sorted((tmp_path / 'clip').glob('model-*'))[1].name
    del site.pages[f'/clip/{shard}']
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'another'))
    assert f'{shard} is answered with 404' in refused(monkeypatch, 'convert',
                                                      'hf-clip', url,
                                                      tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


# --- what does not ---

FAULTS = {
    'no such file': (lambda site: f'{site.url}/w.pth',
                     'is answered with 404 Not Found: check the address'),
    'server out of order':
    (lambda site: site.put('/w.pth', broken), 'is answered with 503'),
    'half a file': (lambda site: site.put('/w.pth', whole(b'12', size=900)),
                    'broke off: 2 of 900 bytes arrived; try again'),
    'half a chunk': (lambda site: site.put('/w.pth', chunks),
                     'cannot be downloaded: IncompleteRead'),
    'a login page': (lambda site: site.put(
        '/w.pth', whole(b'\n <!DOCTYPE html>', 'text/html')),
                     'answers with a web page, not with weights'),
    'larger than the disk':
    (lambda site: site.put('/w.pth', whole(b'1', size=10**15)),
     'has 1,000,000,000,000,000 bytes, .* room for [0-9,]+: set XDG_CACHE'),
    'in a circle': (lambda site: site.put('/w.pth', led_to('/w.pth')),
                    'is answered with 302'),
    'nobody there': (lambda site: 'http://127.0.0.1:1/w.pth',
                     'cannot be downloaded: .*refused.*; check network'),
    'no host': (lambda site: 'http:///w.pth', 'cannot be downloaded: '),
    'no file name': (lambda site: f'{site.url}/a/', 'no address of a file'),
    'another folder':
    (lambda site: f'{site.url}/a/..%2Fw.pth', 'no address of a file'),
    'two points': (lambda site: f'{site.url}/..', 'no address of a file'),
    'a file address': (lambda site: 'file:///etc/passwd',
                       'no address of a file: expected https://.../NAME'),
    'no web address':
    (lambda site: 'ftp://127.0.0.1/w.pth', 'no address of a file'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_fault_is_one_message_and_leaves_nothing(site, cache, tmp_path,
                                                 monkeypatch, fault):
    make, message = FAULTS[fault]
    url = make(site)
    said = refused(monkeypatch, 'convert', 'dino', url, tmp_path / 'out.pth')
    with pytest.raises(Refused, match=message):
        download.fetch(url)
    assert url in said and '\n' not in said
    assert not files_in(tmp_path)


def test_no_room_while_writing_is_one_message_and_leaves_nothing(
        site, cache, tmp_path, monkeypatch):
    url = site.put('/w.pth', bytes(5000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # bytes a file
    try:
        said = refused(monkeypatch, 'convert', 'dino', url,
                       tmp_path / 'out.pth')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 'cannot be written: File too large; set XDG_CACHE_HOME' in said
    assert not files_in(tmp_path)


def test_cache_that_cannot_be_made_is_one_message(site, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    said = refused(monkeypatch, 'convert', 'dino',
                   site.put('/w.pth', b'weights'), tmp_path / 'out.pth')
    assert 'cannot be written: ' in said and 'XDG_CACHE_HOME' in said


@pytest.mark.parametrize('source', ['address', 'file', 'folder'])
def test_sum_that_is_asked_for_is_compared_whatever_the_source(
        site, tmp_path, monkeypatch, cache, source):
    content = saved(timm_vit().state_dict())
    (tmp_path / 'vit').mkdir()
    (tmp_path / 'vit' / 'pytorch_model.bin').write_bytes(content)
    src = dict(
        address=site.put('/w.pth', content),
        file=tmp_path / 'vit' / 'pytorch_model.bin',
        folder=tmp_path / 'vit')[source]
    out, option = tmp_path / 'out.pth', '--sha256'
    said = refused(monkeypatch, 'convert', 'dino', src, out, option, '0' * 64)
    assert f'{src} has sha256 {sha256(content)}, expected was 000' in said
    assert not out.exists() and not files_in(cache)
    convert(monkeypatch, 'dino', src, out, option, sha256(content))
    assert out.exists()


def test_interrupted_download_leaves_nothing(site, tmp_path):

    def stall(request):
        whole(b'12', size=900)(request)
        time.sleep(60)

    url = site.put('/w.pth', stall)
    code = (
        'import signal, sys; from mmfd.weights import download; '
        # a shell has those ignore it whom it starts in the background
        'signal.signal(signal.SIGINT, signal.default_int_handler); '
        'download.fetch(sys.argv[1])')
    run = subprocess.Popen([sys.executable, '-c', code, url],
                           stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not files_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [x.suffix for x in files_in(tmp_path)] == ['.part']
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert not files_in(tmp_path)


def test_only_the_converter_downloads(site):
    url = site.put('/w.pth', saved(timm_vit().state_dict()))
    with pytest.raises(ValueError, match='is an address: download the file'):
        checkpoints.load(url)
    assert not site.asked


# --- the list ---


def test_list_shows_every_published_file_on_a_line(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        convert(monkeypatch, '--list')
    assert not stop.value.code
    head, *lines = capsys.readouterr().out.split('\n\n')[0].split('\n')
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
