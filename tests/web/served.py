"""Servers in threads, and requests to them."""

import http.client
import threading
import urllib.parse
from contextlib import contextmanager

from tests.bounds import HANGS_S
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.web.server import Server


@contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(HANGS_S)


def serving(where, **options):
    return running(Server(resolve(where), **options))


def asked(server, path, method="GET", **headers):
    """Status, body and headers of what a server answers."""
    place = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=HANGS_S)
    try:
        connection.request(method, f"{place.path}{path}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def called(app, path, method="GET", **headers):
    """The same of an application that is called without a server."""
    said = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    answered = []
    environ = {"PATH_INFO": path, "REQUEST_METHOD": method, "wsgi.file_wrapper": read_file, **said}
    body = b"".join(app(environ, lambda status, fields: answered.append((int(status[:3]), dict(fields)))))
    ((status, fields),) = answered
    return status, body, fields


def read_file(file, _size):
    with file:
        return [file.read()]
