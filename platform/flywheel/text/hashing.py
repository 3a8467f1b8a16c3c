"""Hashes that are the same in every process, on every machine and in every release.

Python's own ``hash`` is salted per process; a split decided by it would change with every run.
"""

from __future__ import annotations

import hashlib

_MANTISSA_BITS = 53


def stable_hash(*parts: str) -> int:
    """64-bit hash of a sequence of texts (BLAKE2b); ``("ab", "c")`` and ``("a", "bc")`` differ."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "big")


def unit_interval(*parts: str) -> float:
    """A number in [0, 1) that depends on the content only; compare it with a share to make a split."""
    return (stable_hash(*parts) >> (64 - _MANTISSA_BITS)) / (1 << _MANTISSA_BITS)
