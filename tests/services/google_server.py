"""gcp-storage-emulator with one bucket: ``python google_server.py PORT``.

It looks at no precondition by itself. Here an upload with ``ifGenerationMatch=0`` is refused where the object is there
already, with 412, as Google documents; requests are answered one at a time.
"""

import socketserver
import sys
from http import HTTPStatus

from gcp_storage_emulator.__main__ import main
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def conditional(upload):
    def answer(request, response, storage):
        name = request.query.get("name") or [request.data["meta"]["name"]]
        if request.query.get("ifGenerationMatch") == ["0"]:
            try:
                storage.get_file_obj(request.params["bucket_name"], name[0])
            except NotFound:
                pass
            else:
                response.status = HTTPStatus.PRECONDITION_FAILED
                return
        upload(request, response, storage)

    return answer


if __name__ == "__main__":
    for name in ("_multipart_upload", "_create_resumable_upload"):
        setattr(objects, name, conditional(getattr(objects, name)))
    # Its queue of 5 connections would make a client with many wait for seconds.
    socketserver.TCPServer.request_queue_size = 512
    main(["start", "--quiet", "--host=127.0.0.1", f"--port={sys.argv[1]}", "--in-memory", "--default-bucket=loopback"])
