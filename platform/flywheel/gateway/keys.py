"""What an API key is: who holds it, what it may do, and the digest that is all we keep of its secret.

A secret is 32 random bytes, so one plain SHA-256 is the right digest: there is no dictionary to try, and what slow,
salted hashes protect (short, human, reused passwords) does not exist here. It is computed on every request.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from typing import Annotated, Final, Literal, get_args

from pydantic import Field, field_validator

from flywheel.capture.events import Name
from flywheel.records import Record, utcnow

KeyRole = Literal["product", "feedback", "reviewer", "operator"]
KEY_ROLES: Final[tuple[KeyRole, ...]] = get_args(KeyRole)
EVERY_FLOW: Final = "*"
PREFIX: Final = "fw-"
"""Of every secret, so that scanners of code and logs can find one that leaked."""


class ApiKey(Record):
    """One key as the key file holds it. Produced by ``flywheel keys``, consumed by the gateway."""

    id: str = Field(pattern=r"^key-[0-9a-f]{8}$")
    name: str = Field(min_length=1, max_length=128, description="for people: who or what uses it")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the whole secret, hexadecimal")
    tenant: Name = "default"
    roles: list[KeyRole] = Field(min_length=1)
    flows: list[Annotated[str, Field(pattern=r"^(\*|[a-z0-9][a-z0-9_-]{0,63})$")]] = Field(
        min_length=1, description="flows it may use; * for all"
    )
    requests_per_minute: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="none: no limit")
    burst: int | None = Field(default=None, ge=1, description="requests at once; none: a sixth of the minute's")
    tokens_per_minute: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="prompt and completion together; none: no limit"
    )
    created: datetime = Field(default_factory=utcnow)
    expires: datetime | None = None
    revoked: datetime | None = None

    @field_validator("created", "expires", "revoked")
    @classmethod
    def _has_zone(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("needs a time zone, e.g. 2027-01-31T00:00:00Z")
        return value

    def state(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        """Whether it opens anything at ``now``."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "active"


def new_secret() -> str:
    """A secret of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def new_id() -> str:
    """An id that says nothing; rows, logs and people name the key by it."""
    return f"key-{secrets.token_hex(4)}"


def digest(secret: str) -> str:
    """What is kept of a secret: its SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()
