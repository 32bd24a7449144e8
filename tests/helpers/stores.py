"""A web server with the files of a folder, and the faults of real ones."""
import random
import re
import ssl
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (Encoding,
                                                          NoEncryption,
                                                          PrivateFormat)
from cryptography.x509.oid import NameOID

FAULTS = 'slow', '500', '503', 'cut', 'hang up'
SLOW = .5  # seconds


class FaultyStore:
    """Serves the files of a folder, in parts, below any path.

    So it is a server of S3, too, of which objects alone are asked for.

    Args:
        folder (Path): of the files.
        share (float): of requests that meet a fault, one after another of
            `FAULTS` at random.
        seed (int): of them.
        certificate (Path): of `127.0.0.1`, with its key, to speak TLS.

    Attributes:
        served (Counter): (name, first byte, last byte) -> how often that was
            sent whole.
        faults (Counter): of those that were met.
        answers (dict): name -> the status of all answers about it.
        headers (dict): what each request must have, else it is refused.
        parts (bool): whether it gives parts of files.
    """

    def __init__(self, folder, share=0., seed=0, certificate=None):
        self.folder, self.share = folder, share
        self.chance = random.Random(seed)
        self.served, self.faults, self.answers = Counter(), Counter(), {}
        self.headers, self.parts = {}, True
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            wbufsize = 1 << 20  # headers and content go together

            def do_GET(self):
                store.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.scheme = 'https' if certificate else 'http'
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    @property
    def address(self):
        return f'{self.scheme}://127.0.0.1:{self.server.server_port}'

    def answer(self, request):
        name = urlsplit(request.path).path.rpartition('/')[2]
        fault = None
        if self.chance.random() < self.share:
            fault = self.chance.choice(FAULTS)
            self.faults[fault] += 1
        if fault == 'slow':
            time.sleep(SLOW)
        path = self.folder / name
        if self.headers.items() - request.headers.items():
            status = 403
        elif name in self.answers:
            status = self.answers[name]
        elif not path.is_file():
            status = 404
        else:
            status = int(fault) if fault in ('500', '503') else 206
        if fault == 'hang up':
            request.close_connection = True
        elif status != 206:
            self.send(request, status, b'')
        else:
            self.send_part(request, name, path, fault == 'cut')

    def send_part(self, request, name, path, cut):
        data, status = path.read_bytes(), 206
        first, last = map(
            int,
            re.fullmatch(r'bytes=(\d+)-(\d+)',
                         request.headers['Range']).groups())
        if not self.parts:
            status, first, last = 200, 0, len(data)
        elif first >= len(data):
            return self.send(request, 416, b'')
        part = data[first:last + 1]
        headers = {'ETag': f'"{path.stat().st_mtime_ns}"'}
        if self.parts:
            last = first + len(part) - 1
            headers['Content-Range'] = f'bytes {first}-{last}/{len(data)}'
        self.send(request, status, part, headers, cut)
        if not cut:
            self.served[name, first, first + len(part) - 1] += 1

    def send(self, request, status, body, headers=None, cut=False):
        request.send_response(status)
        for key, value in (headers or {}).items():
            request.send_header(key, value)
        request.send_header('Content-Length', str(len(body)))
        request.end_headers()
        request.wfile.write(body[:len(body) // 2] if cut else body)
        if cut:
            request.wfile.flush()
            request.close_connection = True


def write_certificate(file):
    """A certificate of `127.0.0.1` that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, '127.0.0.1')])
    today = datetime.now(timezone.utc)
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(),
        today - timedelta(1), today + timedelta(1)).add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ip_address('127.0.0.1'))]),
            False).add_extension(x509.BasicConstraints(True, None), True)
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) +
        made.sign(key, SHA256()).public_bytes(Encoding.PEM))
    return file
