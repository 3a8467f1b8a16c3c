"""Which place on the assignment's line a key has. Pure, and the same at every replica that has the secret.

The key is the row's subject: the user where the request names one, else the session, else the request itself. One
keyed hash (BLAKE2b, RFC 7693, with its key, used as a pseudorandom function) of flow, epoch, tenant and subject gives
the place and, from other bytes of it, the name under which the key is recorded. Without the secret nobody can compute
either, choose a user id that lands in a canary, or tell a person from the recorded name. The epoch is the number of the
routing that began the present canaries: the next ones draw anew, so that the same people are not always the first.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from flywheel.rollout.routing import Routing
from flywheel.rollout.slots import TICKS

_PERSON = b"flywheel-canary"  # no other use of the same secret can give the same hash


class Key(NamedTuple):
    """One key as this flow's canaries see it."""

    place: int
    hash: str


def key_of(secret: bytes, routing: Routing, tenant: str, subject: str) -> Key:
    """Place (uniform on 0 … TICKS - 1, bias below 2^-44) and recorded name (128 bits) of a key.

    ``secret`` has 1 to 64 bytes; with an empty one BLAKE2b would not be keyed.

    Raises:
        ValueError: the secret is empty or too long.
    """
    if not secret:
        raise ValueError("the assignment needs a secret")
    parts = [part.encode("utf-8", "surrogatepass") for part in (routing.flow, str(routing.epoch), tenant, subject)]
    data = b"".join([b"%d:%b" % (len(part), part) for part in parts])
    digest = hashlib.blake2b(data, key=secret, digest_size=24, person=_PERSON).digest()
    return Key(int.from_bytes(digest[:8], "big") * TICKS >> 64, digest[8:].hex())
