"""How long failed requests are repeated, and what their errors say."""

import asyncio
import itertools
import pickle
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from dask.utils import parse_timedelta

from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.storage.spec import AZURE, BUCKETS

# How long failed requests are repeated: the same limits for every backend.

T = TypeVar("T")

CONNECT_S = 5.0
INSTANCE_S = 4.0  # seconds in which a machine's metadata address must answer
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits that the settings now state.

    Parameters
    ----------
    retries
        How often a request is repeated.
    total_s
        Seconds after which it is not repeated.
    silence_s
        Seconds without a byte after which an attempt is given up.
    """

    retries: int
    total_s: float
    silence_s: float

    @classmethod
    def of_settings(cls) -> "RetryPolicy":
        """Read the settings ``retries``, ``retry-timeout`` and ``read-timeout``."""
        total, silence = (float(parse_timedelta(setting(name))) for name in ("retry-timeout", "read-timeout"))
        return cls(int(setting("retries")), total, silence)


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    failures: tuple[type[BaseException], ...],
    pause_after: Callable[[BaseException], float | None],
) -> T:
    """Await an attempt; after a failure that may be temporary, try again, with growing pauses.

    Parameters
    ----------
    failures
        What an attempt may raise.
    pause_after
        Least seconds to wait after a failure; None if it would only fail again.

    Raises
    ------
    BaseException
        The last failure, when the policy allows no more.
    """
    begin = time.monotonic()
    for number in itertools.count():
        try:
            return await attempt()
        except failures as error:
            least = pause_after(error)
            if least is None or number >= policy.retries:
                raise
            pause = max(least, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**number) * random.uniform(0.5, 1))
            if time.monotonic() - begin + pause > policy.total_s:
                raise
        await asyncio.sleep(pause)
    raise AssertionError("the loop has no end")


# What the error of a request says: the cause, why a bucket may have refused it, and what to try.

_UNSIGNED = "; it was sent unsigned, because no credentials were found in options, environment or profile files"
_AS_TOLD = "; it was sent unsigned, as {public} says: the bucket is not public, or not for this request"
_SIGNED = "; the credentials were refused ({public} reads a public bucket)"
_EXPIRED = "; the credentials have expired: renew them{provider}"
_HAS_EXPIRED = re.compile(
    r"Expired ?Token|RequestExpired|TokenRefreshRequired|Signature expired|not valid in the specified time frame|"
    r"(token|signature|credentials|session)( included in the request)? (has|is|was|have)? ?expired",
    re.IGNORECASE,
)
NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|(bucket|container) does not exist", re.IGNORECASE)
_XML = re.compile(r"<(\?xml|!DOCTYPE|[a-z][a-z0-9]*[\s/>]).*", re.IGNORECASE | re.DOTALL)
_PROVIDER = "credential provider: "  # failures on this machine, without any refusal
_TAG = re.compile(r"<(Code|Message)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_CAUSES = {  # causes, by what Rust and Python say below the first line
    "the host is not known": r"lookup address|Name or service not known|name resolution|getaddrinfo failed",
    "the connection is refused": r"Connection ?[Rr]efused|Connect call failed",
    "the certificate is not signed by an authority that is trusted here": r"UnknownIssuer|issuer cert|self.signed cert",
    "the certificate is for another host": r"NotValidForName|([Hh]ostname|IP address) mismatch",
    "the certificate has expired": r"CertExpired|ExpiredContext|certificate has expired",
    "the server speaks http, not https": r"InvalidContentType|WRONG_VERSION_NUMBER|record layer failure",
    "the server closed the connection without an answer "
    "(https:// may be meant)": r"IncompleteMessage|Server disconnected",
    "http:// is not allowed here (allow_http=True allows it)": r"URL scheme is not allowed|BadScheme",
    "the server redirects the request in circles": r"TooManyRedirects|following redirect",
    "the network is unreachable": r"Network ?(is )?[Uu]nreachable",
    "the connection was reset": r"Connection ?[Rr]eset",
    "the answer does not state its length, which only backend='fsspec' can read": r"MissingContentLength",
    "no answer came in time": r"TimedOut|[Tt]imed out|TimeoutError",
    "the answer is not HTTP": r"Parse\(\s*(Version|Status|Method|Uri)|Bad status line",
    "a header of the answer is malformed": r"Parse\(\s*Header|Invalid header|Content-Length:\\n",
    "the headers of the answer are too large": r"Parse\(\s*TooLarge|Got more than \d+ bytes when reading",
    "the answer ended early": r"IncompleteBody|Not enough data|IncompleteReadError",
}
_REPR = re.compile(r": <\w+: .*>$")  # aiohttp's, of the error below
_ADDRESS = re.compile(r"ConnectError\(\s*\"[^\"]*\",\s*([0-9a-f.:\[\]]+:\d+)")


def hint(scheme: str, backend: str, text: str, *, unsigned: bool, told: bool = False) -> str:
    """Text to append, which begins with a semicolon or is empty.

    Parameters
    ----------
    scheme
        Scheme of the URL.
    backend
        ``"obstore"`` or ``"fsspec"``.
    text
        The message of the server, or of the backend's package.
    unsigned
        Whether the request carried no credentials.
    told
        Whether an option says not to sign.
    """
    if scheme not in BUCKETS or NO_BUCKET.search(text) or _PROVIDER in text:
        return ""
    if told:
        return _AS_TOLD.format(public=_public(scheme, backend))
    if has_expired(text):
        return _EXPIRED.format(provider=", or give a credential_provider= that does" if backend == "obstore" else "")
    if unsigned:
        return _UNSIGNED
    return _SIGNED.format(public=_public(scheme, backend))


def has_expired(text: str) -> bool:
    """Whether a server says that credentials have expired."""
    return _HAS_EXPIRED.search(text) is not None


def reason(error: BaseException) -> str:
    """A client's error in one line: a missing bucket first, the cause last, without XML or Rust structures."""
    chain = list(_chain(error))
    first, _, below = str(error).partition("Debug source:")
    everything = "\n".join(
        [below or f"{type(error).__name__}: {first}", *(f"{type(one).__name__}: {one}" for one in chain[1:])]
    )
    text = _REPR.sub("", " ".join(_plain(first).split()))
    if NO_BUCKET.search(f"{first}\n{everything}"):
        text = f"there is no such bucket: {text}"
    causes = [words for words, pattern in _CAUSES.items() if re.search(pattern, everything)]
    said = [cause for cause in causes[:2] if cause not in text]
    if said and (address := _ADDRESS.search(everything)):
        said[0] += f" by {address[1]}" if "refused" in said[0] else ""
    return f"{text}: {', '.join(said)}" if said else text


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def travelling(error: BaseException) -> BaseException:
    """Remove from an error, and those below it, what cannot be pickled or must not be seen, such as all headers."""
    above: BaseException | None = None
    for one in reversed(list(_chain(error))):
        info: Any = getattr(one, "request_info", None)
        if info is not None:
            info = info._replace(headers={})
            one.__dict__.update(request_info=info, headers=None, history=())
            one.args = (info, ())
        if above is not None:
            one.__cause__ = above
        above = one if _pickles(one) else OSError(f"{type(one).__name__}: {one}")
    return above or error


def _pickles(error: BaseException) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except (TypeError, ValueError, AttributeError, LookupError, pickle.PickleError):  # it holds a TLS context
        return False
    return True


def _plain(text: str) -> str:
    """``text`` with the essentials of a server's XML or HTML in its place."""
    found = _XML.search(text)
    if found is None:
        return text
    parts = [value.strip() for _, value in _TAG.findall(found[0])]
    return text[: found.start()] + ": ".join(dict.fromkeys(parts))


def _public(scheme: str, backend: str) -> str:
    if backend == "obstore":
        return "skip_signature=True"
    return "anon=True" if scheme == "s3" or scheme in AZURE else "token='anon'"
