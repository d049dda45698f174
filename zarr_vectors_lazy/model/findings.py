"""What a check of a store found."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from zarr_vectors_lazy.errors import printable

Check: TypeAlias = Literal["structure", "metadata", "counts", "fragments", "links", "manifests"]
CHECKS: tuple[Check, ...] = ("structure", "metadata", "counts", "fragments", "links", "manifests")
"""In the order in which a report lists them."""
Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a store.

    Parameters
    ----------
    check
        Which check found it.
    severity
        ``"error"``: the store contradicts the format or itself. ``"warning"``: it is legal, and likely not meant.
    where
        Path in the store, and the chunk where it is about one.
    message
        What was found and what was expected.
    """

    check: Check
    severity: Severity
    where: str
    message: str

    def __str__(self) -> str:
        return printable(f"{self.severity} in {self.check}, {self.where}: {self.message}")
