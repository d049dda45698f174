"""What a store costs to keep, to write and to read."""

from dataclasses import dataclass

from zarr_vectors_lazy.access.upkeep.inventory import Kept
from zarr_vectors_lazy.api.show.table import html_table, nbytes_text, text_table
from zarr_vectors_lazy.errors import SelectionError

HEAD = (
    "level",
    "family",
    "objects",
    "of them metadata",
    "stored",
    "mean object",
    "a month",
    "written once",
    "read once",
)


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
    """

    storage: float
    put: float
    get: float
    transfer: float

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) >= 0:
                raise SelectionError(f"{name}= must be a price, 0 or more, found {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Cost:
    """Objects and bytes of a store by level and family of arrays, and what they cost; prints as a table.

    Parameters
    ----------
    url
        The store.
    rows
        One a family.
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
        rows = [
            ("" if row.level is None else str(row.level), row.family or "(own document)", *self._numbers(row))
            for row in self.rows
        ]
        documents = sum(row.documents for row in self.rows)
        total = Kept(level=None, family="", objects=self.objects, documents=documents, nbytes=self.nbytes)
        return [*rows, ("", "total", *self._numbers(total))]

    def _numbers(self, row: Kept) -> tuple[str, ...]:
        return (
            f"{row.objects:,}",
            f"{row.documents:,}",
            nbytes_text(row.nbytes),
            nbytes_text(row.nbytes / max(row.objects, 1)),
            f"{self._month(row.nbytes):.3g}",
            f"{self._write(row.objects):.3g}",
            f"{self._read(row.objects, row.nbytes):.3g}",
        )

    def _rates(self) -> str:
        rates = self.rates
        return (
            f"at {rates.storage:g} a GB and month, {rates.put:g} and {rates.get:g} a 1000 puts and gets, "
            f"{rates.transfer:g} a GB transferred"
        )

    def __repr__(self) -> str:
        return f"<Cost of {self.url}>\n{text_table(HEAD, self._cells(), left=2)}\n{self._rates()}"

    def _repr_html_(self) -> str:
        return html_table(f"Cost of {self.url}, {self._rates()}", HEAD, self._cells(), left=2)
