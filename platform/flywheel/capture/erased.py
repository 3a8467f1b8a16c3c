"""Which events belong to somebody who was erased: the last door before a row is shipped, ingested or imported."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from flywheel.capture.landing import Row
from flywheel.lake.erasures import Erasures
from flywheel.lake.keys import Keyring
from flywheel.lake.schemas import uuid7_time

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Erased:
    """The erasures in force, asked with raw user ids."""

    def __init__(self, erasures: Erasures, keyring: Keyring) -> None:
        self._erasures, self._keyring = erasures, keyring

    def user(self, tenant: str, user: str, moment: datetime) -> bool:
        """Whether what ``user`` did at ``moment`` is erased. Nobody named: no."""
        if not self._erasures or not user:
            return False
        return self._erasures.covers(self._keyring.pseudonym(tenant, user), moment)

    def answer(self, subject: str, inference_id: str) -> bool:
        """Whether an answer given to ``subject`` (a pseudonym) is erased; a reaction to it then is too."""
        moment = uuid7_time(inference_id) if self._erasures else None
        return moment is not None and self._erasures.covers(subject, moment)

    def row(self, row: Row) -> bool:
        """Whether a raw event is erased, as far as it alone can tell."""
        if not self._erasures:
            return False
        user = parsed(row.body).get("subject")
        return isinstance(user, str) and self.user(row.tenant, user, time_of(row))


def parsed(body: str) -> dict[str, Any]:
    """The JSON object of an event's body; empty when it is none (ingestion puts such a row into quarantine)."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def time_of(row: Row) -> datetime:
    """When an event happened."""
    return EPOCH + timedelta(microseconds=row.ts)
