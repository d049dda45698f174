"""Bytes and documents that are slightly wrong."""

import copy
import os
import random
import struct

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("FUZZ", "0"))
fuzzed = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
)
NUMBERS = (0, 1, 2**7, 2**8 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 10**12)


def nearly(valid):
    """Strategy: bytes of ``valid`` (a sequence of byte strings) with a few changes, or any bytes at all."""
    return st.one_of(
        st.binary(max_size=200),
        st.builds(changed, st.sampled_from(list(valid)), st.integers(0, 2**32), st.integers(1, 3)),
    )


def changed(data, seed, changes):
    rng, out = random.Random(seed), bytearray(data)
    for _ in range(changes):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0:
                del out[at:]
            case 1 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 2:
                out[at:at] = rng.randbytes(rng.choice((1, 4, 8, 30)))
            case 3:
                size, code = rng.choice(((4, "<I"), (8, "<Q")))
                out[at : at + size] = struct.pack(code, rng.choice(NUMBERS) % 2 ** (8 * size))
            case 4:
                del out[at : at + rng.choice((1, 4, 8))]
            case 5:
                out[at:at] = out[: rng.randrange(40)]
    return bytes(out)


def _deep():
    nested = []
    for _ in range(200):
        nested = [nested]
    return nested


HOSTILE = (
    *(None, True, False, -1, 1.5, 0.0, -0.0, 10**15, 10**400, *NUMBERS, -(2**63), 1e-320, 1e308, -1e308),
    *(float("nan"), float("inf"), -float("inf"), "", "..", "../..", "/etc", "a\\b", "a\0b", "x" * 1000, "0", "-1"),
    *(
        "1.2.3",
        "9" * 18 + ".0.0",
        "0.0.0",
        [],
        {},
        [[]],
        _deep(),
        [10**12] * 3,
        [2**62] * 3,
        [0] * 3,
        [1] * 3,
        [-1] * 3,
    ),
    *([1e-320] * 3, [1e308] * 3, [float("nan")] * 3, [float("inf")] * 3, [[0, 0, 0], [1, 1, 1]], ["0.0.0"] * 2),
    *("O", "V8", "(1000000,1000000)f8", "<U1000000000", "M8[ns]", "f4,f4", "float64", "int8", "uint8", "bool", "c16"),
    *("zstd", "gzip", "blosc", "crc32c", "bytes", "vlen-bytes", "sharding_indexed", "dictionary", "vlen_manifests_v1"),
    *({"name": "gzip"}, {"name": "zstd", "configuration": {}}, [{"name": "vlen-bytes"}, *[{"name": "zstd"}] * 2]),
    *({"a": 1}, ["a", "b"], ["a" * 10_000] * 100, [1, "a"], [10**400], [2**63, -1], [True, False], ["0.0.0"]),
    *(["999999999999.0.0", "0.0.0"], {"0": [0, 10**12]}, {"0": [5, 1]}, {"vertex_counts": [1]}, {"0.0.0": [0, 10**12]}),
)


def places(doc, at=()):
    """Paths of the members of a document; of long lists the first."""
    members = doc.items() if isinstance(doc, dict) else enumerate(doc[:50]) if isinstance(doc, list) else ()
    for key, value in members:
        yield (*at, key)
        yield from places(value, (*at, key))


def hostile(doc, rng):
    """A copy with one to three members changed, gone or doubled; and what was done."""
    out, done = copy.deepcopy(doc), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = list(places(out))
        if not found:
            break
        *path, last = rng.choice(found)
        node = out
        for key in path:
            node = node[key]
        what = rng.random()
        if what < 0.3 and isinstance(node[last], int | float):
            node[last] = rng.choice(NUMBERS)
        elif what < 0.8:
            node[last] = copy.deepcopy(rng.choice(HOSTILE))
        elif what < 0.9 or not isinstance(node, list):
            del node[last]
        else:
            node.append(copy.deepcopy(node[last]))
        done.append((*path, last))
    return out, done
