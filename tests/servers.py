"""Servers on loopback that tests read from, without any use of the network."""

import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore.store

from tests.bounds import HANGS_S

LISTENS = re.compile(r"(?:.* listens on http://127\.0\.0\.1:)?(\d+)$")
ACCESS = "AKIALOOPBACK"
SECRET = "loopback-secret-0123456789"
# No client may look for credentials outside this machine.
ENVIRONMENT = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
    "NO_GCE_CHECK": "true",
}


def keep_off_the_network():
    """Set variables that keep every cloud client in this process and its children from using the network."""
    os.environ.update(ENVIRONMENT)


@contextmanager
def process(*command):
    """Run a server until the block ends; yield the port that it has chosen, which it prints once it listens."""
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, **ENVIRONMENT}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **quiet) as running:
        hangs = threading.Timer(HANGS_S, running.kill)
        hangs.start()
        try:
            said = (LISTENS.match(line) for line in running.stdout)
            port = next((int(found[1]) for found in said if found), None)
            hangs.cancel()
            if port is None:
                raise RuntimeError(f"the server ended before it began to listen: {command}")
            yield port
        finally:
            running.terminate()


@dataclass
class S3Server:
    """A moto server; `upload` a folder, read it with ``(url, options)`` of either backend."""

    url: str
    bucket: str = "loopback"

    def obstore(self, prefix):
        return f"s3://{self.bucket}/{prefix}", {
            "endpoint": self.url,
            "region": "us-east-1",
            "access_key_id": ACCESS,
            "secret_access_key": SECRET,
            "client_options": {"allow_http": True},
        }

    def fsspec(self, prefix):
        return f"s3://{self.bucket}/{prefix}", {"endpoint_url": self.url, "key": ACCESS, "secret": SECRET}

    def options(self, backend, prefix):
        """``(url, options)`` for backend ``"obstore"`` or ``"fsspec"``."""
        return {"obstore": self.obstore, "fsspec": self.fsspec}[backend](prefix)

    def upload(self, folder, prefix):
        """Put every file of a local folder under ``prefix``."""
        store = self.native()
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        with ThreadPoolExecutor(16) as threads:
            put = partial(obstore.put, store)
            list(threads.map(lambda p: put(f"{prefix}/{p.relative_to(folder).as_posix()}", p.read_bytes()), files))

    def put(self, objects, prefix):
        """Put a mapping from key to bytes under ``prefix``."""
        store = self.native()
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda item: obstore.put(store, f"{prefix}/{item[0]}", item[1]), objects.items()))

    def native(self):
        return obstore.store.S3Store(
            self.bucket,
            endpoint=self.url,
            region="us-east-1",
            access_key_id=ACCESS,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )


# For each request moto looks in a folder for the services that it has, which takes two fifths of the time of a GET.
MOTO = """
import moto.backends, moto.server, werkzeug.serving
services = list(moto.backends.list_of_moto_modules())
moto.backends.list_of_moto_modules = lambda: services
app = moto.server.DomainDispatcherApplication(moto.server.create_backend_app)
handler = moto.server.MotoRequestHandler
server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=handler)
print(server.port, flush=True)
server.serve_forever()
"""


@contextmanager
def s3_server():
    """Run a moto server in a process of its own, with one bucket."""
    with process(sys.executable, "-c", MOTO) as port:
        server = S3Server(f"http://127.0.0.1:{port}")
        request = urllib.request.Request(f"{server.url}/{server.bucket}", method="PUT")
        urllib.request.urlopen(request, timeout=HANGS_S).close()
        yield server


@dataclass
class Seen:
    """Requests that a `file_server` received."""

    requests: list = field(default_factory=list)
    in_flight: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def file_server(folder, *, delay_s=0.0, status=None, headers=None):
    """Serve a folder over plain HTTP without listing or ranges; yield its URL and what it saw.

    Parameters
    ----------
    folder
        What is served.
    delay_s
        Waited before each answer.
    status
        Answer everything with this status, a number or a function of the path and the headers of the request.
    """
    seen = Seen()

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def list_directory(self, _path):
            self.send_error(404)

        def do_GET(self):
            with seen.lock:
                seen.requests.append((self.command, self.path, dict(self.headers)))
                seen.in_flight += 1
                seen.most = max(seen.most, seen.in_flight)
            time.sleep(delay_s)
            with seen.lock:
                seen.in_flight -= 1  # before the client can know, and send the next
            answer = status(self.path, self.headers) if callable(status) else status
            if answer:
                self.send_error(answer)
            else:
                super().do_GET()

        def end_headers(self):
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            super().end_headers()

        do_HEAD = do_PUT = do_GET

    class Server(ThreadingHTTPServer):
        request_queue_size = 512
        daemon_threads = True

        def handle_error(self, *_):  # a client that was cancelled hangs up
            pass

    server = Server(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
