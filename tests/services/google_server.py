"""gcp-storage-emulator with one bucket; it prints its port.

It looks at no precondition by itself. Here an upload with ``ifGenerationMatch`` is refused with 412 where that is not
the object's generation, which is 0 where there is none, as Google documents; requests are answered one at a time.
"""

import socketserver
from http import HTTPStatus

from gcp_storage_emulator.__main__ import main
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def conditional(upload):
    def answer(request, response, storage):
        name = request.query.get("name") or [request.data["meta"]["name"]]
        (wanted,) = request.query.get("ifGenerationMatch", [None])
        try:
            found = str(storage.get_file_obj(request.params["bucket_name"], name[0])["generation"])
        except NotFound:
            found = "0"
        if wanted not in (None, found):
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        upload(request, response, storage)

    return answer


if __name__ == "__main__":
    for name in ("_media_upload", "_multipart_upload", "_create_resumable_upload"):
        setattr(objects, name, conditional(getattr(objects, name)))
    # With its queue of 5 connections, a client with many would wait for seconds.
    socketserver.TCPServer.request_queue_size = 512
    where = ["--host=127.0.0.1", "--port=0", "--in-memory", "--default-bucket=loopback"]
    server = main(["start", "--quiet", *where], test_mode=True)
    server.start()
    print(server._api._httpd.server_port, flush=True)
