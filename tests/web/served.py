"""Servers in threads, and requests to them."""

import http.client
import threading
import urllib.parse
from contextlib import contextmanager

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
        thread.join(5)


def serving(where, **options):
    return running(Server(resolve(where), **options))


def asked(server, path, method="GET", **headers):
    """Status, body and headers of what a server answers."""
    place = urllib.parse.urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    try:
        connection.request(method, f"{place.path}{path}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()
