"""What to add to the error of a request that a bucket refused: why it may have been, and what to try."""

import re

from zarr_vectors_lazy.storage.location import AZURE, BUCKETS

_UNSIGNED = "; it was sent unsigned, as no credentials were found in options, environment and profile files"
_SIGNED = "; the credentials were refused ({public} reads a public bucket)"
_EXPIRED = "; the credentials have expired: renew them{provider}"
_HAS_EXPIRED = re.compile(
    r"ExpiredToken|TokenRefreshRequired|token (has|is|was) expired|signature (has )?expired", re.I
)


def hint(scheme: str, backend: str, text: str, *, unsigned: bool) -> str:
    """Text to append, which begins with a semicolon or is empty.

    Parameters
    ----------
    scheme
        Of the URL.
    backend
        ``"obstore"`` or ``"fsspec"``.
    text
        What the server, or the backend's package, said.
    unsigned
        Whether the request carried no credentials.
    """
    if scheme not in BUCKETS:
        return ""
    if has_expired(text):
        return _EXPIRED.format(provider=", or give a credential_provider= that does" if backend == "obstore" else "")
    if unsigned:
        return _UNSIGNED
    return _SIGNED.format(public=_public(scheme, backend))


def has_expired(text: str) -> bool:
    """Whether a server says that credentials were good once."""
    return _HAS_EXPIRED.search(text) is not None


def _public(scheme: str, backend: str) -> str:
    if backend == "obstore":
        return "skip_signature=True"
    return "anon=True" if scheme == "s3" or scheme in AZURE else "token='anon'"
