"""The region that a bucket of S3 is in, which its server tells to those who ask in another one."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

HEADER = "x-amz-bucket-region"
TIMEOUT_S = 5.0
_ELSEWHERE = re.compile(r"redirect without LOCATION|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation")
_EXPECTING = re.compile(r"expecting '([a-z0-9-]+)'")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def is_elsewhere(text: str) -> bool:
    """Whether an error says that the bucket is in another region."""
    return _ELSEWHERE.search(text) is not None


def region_of(bucket: str, text: str, options: Mapping[str, Any]) -> str | None:
    """Region of ``bucket`` as the error's text or, asked once more and unsigned, the server tells it; else None."""
    told = _EXPECTING.search(text)
    if told:
        return told[1]
    url = f"{_endpoint(options).rstrip('/')}/{bucket}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S) as answer:
            found: str | None = answer.headers.get(HEADER)
    except urllib.error.HTTPError as error:  # refused, or moved: the header is there all the same
        with error:
            found = error.headers.get(HEADER)
    except OSError:
        return None  # the first error is the one to tell
    return found


def _endpoint(options: Mapping[str, Any]) -> str:
    given = (options.get(name) for name in ("endpoint", "aws_endpoint", "endpoint_url", "aws_endpoint_url"))
    ambient = (os.environ.get(name) for name in _ENDPOINTS)
    return next((str(url) for url in (*given, *ambient) if url), "https://s3.amazonaws.com")
