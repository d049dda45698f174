"""Puts in place of what is there and of nothing else, with the clients of fsspec's clouds; it has no mode for it."""

import importlib
from typing import Any
from urllib.parse import quote

from zarr_vectors_lazy.storage.location import AZURE


async def swap(system: Any, scheme: str, path: str, old: bytes, new: bytes) -> bool:
    """Put ``new`` in place of ``old``; whether ``new`` is there now.

    Raises
    ------
    Whatever the client does but for a condition that was not met.
    """
    read, put = (_read_azure, _put_azure) if scheme in AZURE else (_read_s3, _put_s3) if scheme == "s3" else _GOOGLE
    now, version = await read(system, path)
    if now == old:
        if await put(system, path, new, version):
            return True
        now, _ = await read(system, path)  # it may have been sent again, after a lost answer
    return now == new


async def _read_s3(system: Any, path: str) -> tuple[bytes, str]:
    bucket, key, _ = system.split_path(path)
    answer = await system._call_s3("get_object", Bucket=bucket, Key=key)
    async with answer["Body"] as body:
        return await body.read(), answer["ETag"]


async def _put_s3(system: Any, path: str, new: bytes, version: str) -> bool:
    bucket, key, _ = system.split_path(path)
    try:
        await system._call_s3("put_object", Bucket=bucket, Key=key, Body=new, IfMatch=version)
    except OSError as error:
        if "PreconditionFailed" not in f"{error} {error.__cause__}":
            raise
        return False
    return True


async def _read_google(system: Any, path: str) -> tuple[bytes, str]:
    bucket, key, _ = system.split_path(path)
    told = await system._call("GET", "b/{}/o/{}", bucket, key, json_out=True)
    return await system._cat_file(path), told["generation"]


async def _put_google(system: Any, path: str, new: bytes, version: str) -> bool:
    bucket, key, _ = system.split_path(path)
    where = f"{system._location}/upload/storage/v1/b/{quote(bucket)}/o"
    how = {"uploadType": "media", "name": key, "ifGenerationMatch": version}
    try:
        await system._call("POST", where, data=new, headers={"Content-Type": "application/octet-stream"}, **how)
    except FileExistsError:  # gcsfs's 412
        return False
    return True


async def _read_azure(system: Any, path: str) -> tuple[bytes, str]:
    container, blob, _ = system.split_path(path)
    async with system.service_client.get_blob_client(container, blob) as client:
        stream = await client.download_blob()
        return await stream.readall(), stream.properties.etag


async def _put_azure(system: Any, path: str, new: bytes, version: str) -> bool:
    core = importlib.import_module("azure.core")
    container, blob, _ = system.split_path(path)
    condition = {"etag": version, "match_condition": core.MatchConditions.IfNotModified}
    async with system.service_client.get_blob_client(container, blob) as client:
        try:
            await client.upload_blob(new, overwrite=True, **condition)
        except core.exceptions.ResourceModifiedError:
            return False
    return True


_GOOGLE = (_read_google, _put_google)
