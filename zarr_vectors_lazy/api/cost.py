"""What a store costs to keep, to write and to read."""

from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.upkeep.inventory import Kept
from zarr_vectors_lazy.api.show.table import html_table, nbytes_text, text_table
from zarr_vectors_lazy.errors import SelectionError

HEAD = ("level", "family", "objects", "stored", "a month", "written once", "read once")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Prices of an object store, in one currency.

    Parameters
    ----------
    storage
        Of 10^9 bytes for a month.
    put, get
        Of 1000 requests that write, and that read.
    transfer
        Of 10^9 bytes that leave it.
    currency
        Their name, such as USD.
    """

    storage: float
    put: float
    get: float
    transfer: float
    currency: str

    def __post_init__(self) -> None:
        for name in ("storage", "put", "get", "transfer"):
            if not getattr(self, name) >= 0:
                raise SelectionError(f"{name}= must be a price, 0 or more, found {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Cost:
    """Objects and bytes of a store by level and family of arrays, and what they cost.

    It prints its sums, and a table by level and kind of array; ``rows`` has each array.

    Parameters
    ----------
    url
        The store.
    rows
        One an array or group: ``level``, ``family``, ``objects``, ``documents`` (metadata among them), ``nbytes``.
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
            f"{self.objects:,} objects ({documents:,} of them metadata), {nbytes_text(self.nbytes)}, {mean} an object",
            f"{_price(self.month)} {money} a month, {_price(self.write)} {money} to write once, "
            f"{_price(self.read)} {money} to read once",
            f"at {rates.storage:g} {money} a GB-month, {rates.put:g} and {rates.get:g} a 1000 puts and gets, "
            f"{rates.transfer:g} a GB out",
        ]

    def __repr__(self) -> str:
        return "\n".join([f"<Cost of {self.url}>", *self._sums(), "", text_table(HEAD, self._cells(), left=2)])

    def _repr_html_(self) -> str:
        return html_table(f"Cost of {self.url}: {'; '.join(self._sums())}", HEAD, self._cells(), left=2)


def _price(value: float) -> str:
    """Price of three digits, none of them an exponent."""
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")
