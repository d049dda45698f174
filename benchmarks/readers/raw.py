"""Not a reader: the bytes of the same objects, neither decoded nor joined, which no reader can beat."""

import asyncio
from pathlib import Path

try:
    import obstore
    from obstore.store import S3Store
except ImportError:  # optional; not needed for local files
    obstore = S3Store = None

from benchmarks.readers import Job


def read_files(job: Job) -> list[bytes]:
    """Read local files one after the other."""
    return [Path(job.folder, key).read_bytes() for key in [*job.metadata, *job.cells]]


def fetch(job: Job) -> list[bytes]:
    """Get the metadata in one round trip, then all cells, ``job.in_flight`` at once."""
    return asyncio.run(_fetch(job))


async def _fetch(job: Job) -> list[bytes]:
    bucket, _, prefix = job.url.removeprefix("s3://").partition("/")
    store, free = S3Store(bucket, prefix=prefix), asyncio.Semaphore(job.in_flight)

    async def get(key: str) -> bytes:
        async with free:
            return await (await obstore.get_async(store, key)).bytes_async()

    return await asyncio.gather(*map(get, job.metadata)) + await asyncio.gather(*map(get, job.cells))
