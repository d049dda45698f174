"""What it costs to keep, write and read a store, and what its bucket must allow so that viewers can read it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np

from zarr_vectors_lazy.display import html_table, nbytes_text, text_table
from zarr_vectors_lazy.errors import SelectionError, counted, in_line
from zarr_vectors_lazy.keywords import suggesting
from zarr_vectors_lazy.write.in_place import Kept

# What a store costs to keep, to write and to read.

HEAD = ("level", "family", "objects", "stored", "a month", "written once", "read once")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices of an object store, in one currency.

    Parameters
    ----------
    storage
        Price of keeping 10^9 bytes for a month.
    put, get
        Price of 1000 requests that write, and of 1000 that read.
    transfer
        Price of 10^9 bytes that leave the object store.
    currency
        Name of the currency, such as USD.
    """

    storage: float
    put: float
    get: float
    transfer: float
    currency: str

    def __post_init__(self) -> None:
        for name in ("storage", "put", "get", "transfer"):
            if not (isinstance(getattr(self, name), Real) and getattr(self, name) >= 0):
                raise SelectionError(f"{name}= must be a price, 0 or more, found {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Cost:
    """Objects and bytes of a store by level and family of arrays, and what they cost.

    Printing it shows the totals, and a table by level and kind of array; ``rows`` has each array.

    Parameters
    ----------
    url
        The store.
    rows
        One row for each array or group: ``level``, ``family``, ``objects``, ``documents`` (how many of the objects are
        metadata) and ``nbytes``.
    rates
        Prices.
    """

    url: str
    rows: tuple[Kept, ...]
    rates: Rates

    @property
    def objects(self) -> int:
        """Objects of the store."""
        return sum(row.objects for row in self.rows)

    @property
    def nbytes(self) -> int:
        """Stored bytes of the store."""
        return sum(row.nbytes for row in self.rows)

    @property
    def month(self) -> float:
        """Price of keeping it for a month."""
        return self._month(self.nbytes)

    @property
    def write(self) -> float:
        """Price of the requests that write every object once."""
        return self._write(self.objects)

    @property
    def read(self) -> float:
        """Price of reading every object once, whole, from outside."""
        return self._read(self.objects, self.nbytes)

    def level(self, index: int | None) -> "Cost":
        """Only the rows of one level; None for what lies outside levels."""
        return Cost(self.url, tuple(row for row in self.rows if row.level == index), self.rates)

    def _month(self, nbytes: int) -> float:
        return nbytes / 1e9 * self.rates.storage

    def _write(self, objects: int) -> float:
        return objects / 1000 * self.rates.put

    def _read(self, objects: int, nbytes: int) -> float:
        return objects / 1000 * self.rates.get + nbytes / 1e9 * self.rates.transfer

    def _cells(self) -> list[tuple[str, ...]]:
        kinds: dict[tuple[str, str], list[Kept]] = {}
        for row in self.rows:
            level = "" if row.level is None else str(row.level)
            kinds.setdefault((level, row.family.partition("/")[0] or "(own document)"), []).append(row)
        return [(*kind, *self._numbers(rows)) for kind, rows in kinds.items()]

    def _numbers(self, rows: list[Kept]) -> tuple[str, ...]:
        objects, nbytes = sum(row.objects for row in rows), sum(row.nbytes for row in rows)
        prices = (self._month(nbytes), self._write(objects), self._read(objects, nbytes))
        return (f"{objects:,}", nbytes_text(nbytes), *(f"{price:.3g}" for price in prices))

    def _sums(self) -> list[str]:
        money, rates = self.rates.currency, self.rates
        documents = sum(row.documents for row in self.rows)
        mean = nbytes_text(self.nbytes / max(self.objects, 1))
        return [
            f"{counted(self.objects, 'object')} ({documents:,} of them metadata), {nbytes_text(self.nbytes)}, "
            f"{mean} an object",
            f"{_price(self.month)} {money} a month, {_price(self.write)} {money} to write once, "
            f"{_price(self.read)} {money} to read once",
            f"at {rates.storage:g} {money} a GB-month, {rates.put:g} and {rates.get:g} for 1000 puts and gets, "
            f"{rates.transfer:g} a GB out",
        ]

    def __repr__(self) -> str:
        return "\n".join([f"<Cost of {in_line(self.url)}>", *self._sums(), "", text_table(HEAD, self._cells(), left=2)])

    def _repr_html_(self) -> str:
        return html_table(f"Cost of {self.url}: {'; '.join(self._sums())}", HEAD, self._cells(), left=2)


def _price(value: float) -> str:
    """Price of three digits, none of them an exponent."""
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")


# What a bucket must allow for viewers in a browser, such as Neuroglancer.

METHODS = ["GET", "HEAD"]
EXPOSED = ["Accept-Ranges", "Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "ETag"]
SECONDS = 3600


@suggesting
def cors(service: Literal["s3", "gcs", "azure"], *, origins: Sequence[str] = ("*",)) -> Any:
    """Return the cross-origin (CORS) configuration with which a viewer in a browser can read a bucket by byte ranges.

    Parameters
    ----------
    service
        ``"s3"`` for what S3's PutBucketCors takes; ``"gcs"`` for the ``cors`` of a Google bucket; ``"azure"`` for the
        ``cors`` of the blob service of a storage account.
    origins
        The sites that may read the bucket; by default any.

    Returns
    -------
    dict or list
        The configuration in the service's own form; ``json.dumps`` turns it into a file for the service's command line
        tool.

    Raises
    ------
    SelectionError
        If the service is unknown, or an origin is neither ``*`` nor a site with its scheme.

    Examples
    --------
    >>> rules = zvl.cors("s3", origins=["https://example.org"])
    >>> rules["CORSRules"][0]["AllowedOrigins"]
    ['https://example.org']
    """
    given: Any = origins
    allowed = [str(origin) for origin in given] if isinstance(given, Iterable) and not isinstance(given, str) else []
    if not allowed or not all(site == "*" or "://" in site for site in allowed):
        raise SelectionError(f"origins= must be a list of sites like 'https://example.org', found {origins!r}")

    match service:
        case "s3":
            rule = {
                "AllowedOrigins": allowed,
                "AllowedMethods": [*METHODS],
                "AllowedHeaders": ["*"],
                "ExposeHeaders": [*EXPOSED],
                "MaxAgeSeconds": SECONDS,
            }
            return {"CORSRules": [rule]}
        case "gcs":  # Google names the headers that a request may carry and those that a page may see in one list
            headers = [*EXPOSED, "Authorization", "Range"]
            return [{"origin": allowed, "method": [*METHODS], "responseHeader": headers, "maxAgeSeconds": SECONDS}]
        case "azure":
            azure = {
                "allowedOrigins": allowed,
                "allowedMethods": [*METHODS, "OPTIONS"],
                "allowedHeaders": ["*"],
                "exposedHeaders": ["*"],
                "maxAgeInSeconds": SECONDS,
            }
            return {"corsRules": [azure]}
    raise SelectionError(f"service must be 's3', 'gcs' or 'azure', found {service!r}")
