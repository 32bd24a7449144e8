"""Addresses, served on this machine: fetched once, whole, or not at all."""
import hashlib
import io
import os
import re
import resource
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from helpers import commands
from helpers.commands import command, refused
from helpers.foreign import TINY, hf_clip, timm_vit
from helpers.openai_clip import Clip
from safetensors import safe_open

from mmfd.errors import Refused
from mmfd.weights import checkpoints, download, provenance, weight_files
from mmfd.weights.convert import CONVERTERS


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


# --- what works ---


def test_address_is_converted_like_its_file(site, tmp_path):
    weights = dict(model=timm_vit(classes=5).state_dict())
    content, out = saved(weights), tmp_path / 'deit.pth'
    url = site.put('/deit/deit.pth', content)
    output = command('convert', 'deit', f'{url}?key=secret', out)
    file = checkpoints.load(out)
    assert file['meta'] == dict(
        kind='deit',
        **provenance.of_kind('deit'),
        source='deit.pth',
        url=url,
        sha256=sha256(content),
        licence='unknown')
    expected = CONVERTERS['deit'](weights['model'])
    assert file['state_dict'].keys() == expected.keys()
    assert all(
        torch.equal(file['state_dict'][k], expected[k]) for k in expected)
    assert re.search(r'deit.pth: 100%.* [\d.]+M/[\d.]+M \[.*<00:00, ', output)
    assert f'source sha256 {sha256(content)}, licence unknown' in output


def test_published_file_brings_its_licence_and_must_have_its_sum(
        site, tmp_path, cache):
    content = saved(Clip().state_dict())
    url = site.put('/clip/ViT.pt', content)
    row = ('openai-clip', f'{site.url}/clip', 'ViT.pt', 'MIT', sha256(content))
    before = ('from mmfd.weights import published; published.PUBLISHED = ['
              f'published.Published(*{row})]')
    command(
        'convert',
        'openai-clip',
        url,
        tmp_path / 'clip.safetensors',
        before=before)
    with safe_open(tmp_path / 'clip.safetensors', 'pt') as file:
        meta = file.metadata()
    assert meta == dict(
        kind='openai-clip',
        **provenance.of_kind('openai-clip'),
        source='ViT.pt',
        url=url,
        sha256=sha256(content),
        licence='MIT')
    (tmp_path / 'mine.pt').write_bytes(content)  # known by its sum
    command(
        'convert',
        'openai-clip',
        tmp_path / 'mine.pt',
        tmp_path / 'clip.pth',
        before=before)
    meta = checkpoints.load(tmp_path / 'clip.pth')['meta']
    assert (meta['url'], meta['licence']) == (url, 'MIT')

    site.put('/clip/ViT.pt', content + b'x')
    for file in files_in(cache):
        file.unlink()
    message = refused(
        'convert', 'openai-clip', url, tmp_path / 'other.pth', before=before)
    assert f'has sha256 {sha256(content + b"x")}, expected was' in message
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
    with pytest.raises(Refused, match='expected was 1234'):
        download.fetch(url, ['1234'])
    assert path.read_bytes() == b'weights'
    assert download.fetch(url) == path


def test_first_digits_of_a_sum_are_compared_too(site):
    content = b'weights'
    url = site.put('/w.pth', content)
    assert download.fetch(url, [sha256(content)[:8].upper()])
    with pytest.raises(Refused, match='expected was b5f2ef4d'):
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
    command('convert', 'hf-clip', url, tmp_path / 'clip.pth')
    file = checkpoints.load(tmp_path / 'clip.pth')
    expected = CONVERTERS['hf-clip'](model.state_dict())
    assert all(
        torch.equal(file['state_dict'][k], expected[k]) for k in expected)
    assert file['meta']['sha256'] == weight_files.sha256(tmp_path / 'clip')
    asked = len(site.asked)
    download.fetch(url)
    assert len(site.asked) == asked

    shard = sorted((tmp_path / 'clip').glob('model-*'))[1].name
    del site.pages[f'/clip/{shard}']
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'another'))
    with pytest.raises(Refused, match=f'{shard} is answered with 404'):
        download.fetch(url)


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
def test_fault_is_one_message_and_leaves_nothing(site, tmp_path, fault):
    make, message = FAULTS[fault]
    url = make(site)
    with pytest.raises(Refused, match=message) as error:
        download.fetch(url)
    assert url in str(error.value) and '\n' not in str(error.value)
    assert not files_in(tmp_path)


def test_failed_download_ends_the_command_and_nothing_is_written(
        site, tmp_path):
    url = site.put('/w.pth', broken)
    message = refused('convert', 'dino', url, tmp_path / 'out.pth')
    assert message.startswith(f'error: {url} is answered with 503')
    assert '\n' not in message and not files_in(tmp_path)


class Insecure(io.BytesIO):
    """The answer of an https address that led to one without."""
    url, headers = 'http://a.b/w.pth', {}


def test_https_address_is_not_followed_to_one_without(tmp_path, monkeypatch):
    monkeypatch.setattr(download, 'urlopen', lambda *a, **k: Insecure(b'w'))
    with pytest.raises(Refused, match='leads to an address without https'):
        download.fetch('https://a.b/w.pth')
    assert not files_in(tmp_path)


def test_no_room_while_writing_is_one_message_and_leaves_nothing(
        site, tmp_path):
    url = site.put('/w.pth', bytes(5000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # bytes a file
    try:
        with pytest.raises(
                Refused,
                match='cannot be written: File too large; set XDG_CACHE_HOME'):
            download.fetch(url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not files_in(tmp_path)


def test_cache_that_cannot_be_made_is_one_message(site, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    with pytest.raises(Refused, match='cannot be written: .*XDG_CACHE_HOME'):
        download.fetch(site.put('/w.pth', b'weights'))


@pytest.mark.parametrize('source', ['address', 'file', 'folder'])
def test_sum_that_is_asked_for_is_compared_whatever_the_source(
        site, tmp_path, cache, source):
    content = saved(timm_vit().state_dict())
    (tmp_path / 'vit').mkdir()
    (tmp_path / 'vit' / 'pytorch_model.bin').write_bytes(content)
    src = dict(
        address=site.put('/w.pth', content),
        file=tmp_path / 'vit' / 'pytorch_model.bin',
        folder=tmp_path / 'vit')[source]
    out, option = tmp_path / 'out.pth', '--sha256'
    message = refused('convert', 'dino', src, out, option, '0' * 64)
    assert f'{src} has sha256 {sha256(content)}, expected was 000' in message
    assert not out.exists() and not files_in(cache)
    command('convert', 'dino', src, out, option, sha256(content))
    assert out.exists()


@pytest.mark.parametrize('planted', ['link', 'open file', 'open sum'])
def test_kept_file_that_others_could_write_is_fetched_again(
        site, tmp_path, planted):
    url = site.put('/a/w.pth', b'weights')
    path = download.fetch(url)
    sums = path.with_name('w.pth.sha256')
    path.write_bytes(b'planted')
    sums.write_text(sha256(b'planted'))
    assert download.fetch(url).read_bytes() == b'planted'  # own: believed
    if planted == 'link':
        path.rename(tmp_path / 'planted')
        path.symlink_to(tmp_path / 'planted')
    else:
        (path if planted == 'open file' else sums).chmod(0o664)
    assert download.fetch(url).read_bytes() == b'weights'
    assert not path.is_symlink() and len(site.asked) == 2


def test_folder_of_somebody_else_is_one_message(site, cache):
    if os.geteuid():
        pytest.skip('only root can give files away')
    url = site.put('/a/w.pth', b'weights')
    folder = download.fetch(url).parent
    os.chown(folder, 12345, 12345)
    with pytest.raises(
            Refused,
            match='cannot be written: it is of user 12345, not 0; set XDG_'
            'CACHE_HOME to a folder of your own'):
        download.fetch(url)


def test_interrupted_download_leaves_nothing(site, cache, tmp_path):

    stop = threading.Event()

    def stall(request):
        whole(b'12', size=900)(request)
        stop.wait(60)

    url = site.put('/w.pth', stall)
    process = commands.start(
        'convert', 'dino', url, tmp_path / 'out.pth', log=tmp_path / 'log')
    assert commands.wait_for(lambda: files_in(cache), process)
    assert [x.suffix for x in files_in(cache)] == ['.part']
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    stop.set()
    assert process.exitcode == 130 and not files_in(cache)


def test_only_the_converter_downloads(site):
    url = site.put('/w.pth', saved(timm_vit().state_dict()))
    with pytest.raises(Refused, match='is an address: download the file'):
        checkpoints.load(url)
    assert not site.asked
