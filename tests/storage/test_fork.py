"""A forked child of a process that used obstore gets an error instead of waiting forever."""

import subprocess
import sys

import pytest

from tests.bounds import HANGS_S

pytestmark = pytest.mark.emulator
OURS = "import zarr_vectors_lazy as zvl\nzvl.open_zv(url, backend='obstore')\n"
THEIRS = "import obstore\nobstore.store.HTTPStore.from_url(url, client_options={'allow_http': True}).get('zarr.json')\n"
CHILD = """
import os, sys
url = sys.argv[1]
{before}
pid = os.fork()
if not pid:
    import zarr_vectors_lazy as zvl
    try:
        print("opened", zvl.open_zv(url, backend=sys.argv[2]).levels, flush=True)
    except zvl.errors.StoreError as error:
        print("spawn" in str(error), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads of others are seen on Linux alone")
@pytest.mark.parametrize("before", ["ours", "theirs", "theirs, ours imported", "nothing"])
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_a_forked_child(http_host, cloud, before, backend):
    from tests.services.fixtures import consolidated, objects_in  # noqa: PLC0415

    http_host.put("forked", consolidated(objects_in(cloud)))
    code = {
        "ours": OURS,
        "theirs": THEIRS,
        "theirs, ours imported": f"import zarr_vectors_lazy.storage.backends.obstore_backend\n{THEIRS}",
        "nothing": "import obstore",
    }[before]
    command = [sys.executable, "-c", CHILD.format(before=code), f"{http_host.url}/forked", backend]
    said = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=True).stdout
    assert said.strip() == ("True" if backend == "obstore" and before != "nothing" else "opened [0, 1, 2]")
