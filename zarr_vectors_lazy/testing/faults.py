"""A store that fails on demand, to test code against storage that does not work as it should."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, Store
from zarr.storage import WrapperStore

Kind: TypeAlias = Literal[
    "slow", "error", "denied", "missing", "empty", "truncated", "flipped", "garbage", "shifted", "whole"
]
"""What can happen to an answer; `Fault` explains each."""
KINDS: tuple[Kind, ...] = get_args(Kind)
SLOW_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault in the answers for some keys.

    Parameters
    ----------
    kind
        ``"slow"``: the answer takes 0.05 s longer. ``"error"``: an OSError. ``"denied"``: a PermissionError.
        ``"missing"``: no such object. ``"empty"``: no bytes. ``"truncated"``: too few bytes. ``"flipped"``: one bit is
        flipped. ``"garbage"``: other bytes. For byte ranges only: ``"shifted"``: the range begins one byte late;
        ``"whole"``: the entire object.
    key
        A part of the keys concerned; ``""`` for all keys.
    times
        The number of answers that are affected; None for all.
    at
        Where to cut or flip, as a fraction of the length.
    """

    kind: Kind
    key: str = ""
    times: int | None = None
    at: float = 0.5


class FaultyStore(WrapperStore[Store]):
    """A zarr store that answers reads as another store does, except for some faults.

    Parameters
    ----------
    store
        The other store.
    faults
        The faults; the first that fits a key is applied.

    Attributes
    ----------
    happened
        The kind and key of each fault that happened in this process.
    """

    def __init__(self, store: Store, faults: Iterable[Fault] = ()) -> None:
        super().__init__(store)
        self.happened: list[tuple[Kind, str]] = []
        self._lock = threading.Lock()
        self.arm(faults)

    def arm(self, faults: Iterable[Fault]) -> None:
        """Replace the faults from now on, with all their ``times`` left."""
        with self._lock:
            self.faults = tuple(faults)
            self._left = [fault.times for fault in self.faults]

    def __reduce__(self) -> tuple[Callable[..., "FaultyStore"], tuple[Store, tuple[Fault, ...]]]:
        return FaultyStore, (self._store, self.faults)

    async def get(  # noqa: D102  inherited
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        fault = self._next(key)
        if fault is not None and fault.kind == "whole":
            byte_range = None
        found = await self._store.get(key, prototype, byte_range)
        if fault is None:
            return found
        data = damaged(fault, key, None if found is None else found.to_bytes())
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(  # noqa: D102  inherited
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _next(self, key: str) -> Fault | None:
        with self._lock:
            for number, fault in enumerate(self.faults):
                left = self._left[number]
                if fault.key in key and left != 0:
                    self._left[number] = None if left is None else left - 1
                    self.happened.append((fault.kind, key))
                    return fault
        return None


def damaged(fault: Fault, key: str, data: bytes | None) -> bytes | None:
    """Answer that a fault makes from the right one; or raises what the fault raises."""
    match fault.kind:
        case "slow":
            time.sleep(SLOW_S)
            return data
        case "error":
            raise OSError(f"connection reset while {key!r} was read")
        case "denied":
            raise PermissionError(f"{key!r} may not be read")
        case "missing":
            return None
    return data if data is None else _changed(fault, data)


def _changed(fault: Fault, data: bytes) -> bytes:
    at = min(int(fault.at * len(data)), max(len(data) - 1, 0))
    match fault.kind:
        case "empty":
            return b""
        case "truncated":
            return data[:at]
        case "flipped" if data:
            return data[:at] + bytes([data[at] ^ 1 << int(fault.at * 997) % 8]) + data[at + 1 :]
        case "garbage":
            return np.random.default_rng(int(fault.at * 2**32)).bytes(max(len(data), 1))
        case "shifted":
            return data[1:]
    return data


def kinds_happened(stores: Sequence[FaultyStore]) -> dict[Kind, int]:
    """How many faults of each kind happened to some stores."""
    return {kind: sum(was == kind for store in stores for was, _ in store.happened) for kind in KINDS}
