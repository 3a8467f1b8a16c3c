"""Statements: the latest consent of every subject for every purpose, as the tables know it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from flywheel.lake.tables import Lake
from flywheel.records import Consent, Purpose, utcnow


class Statements:
    """The latest statement of each (subject, purpose); subjects are pseudonyms."""

    def __init__(self, consents: Iterable[Consent] = ()) -> None:
        self._latest: dict[tuple[str, Purpose], Consent] = {}
        self.add(consents)

    def add(self, consents: Iterable[Consent]) -> None:
        """Take further statements into account, in any order."""
        for consent in consents:
            if consent.state == "granted" and consent.ts > utcnow():
                continue  # a clock that runs ahead grants nothing
            known = self._latest.get((consent.subject, consent.purpose))
            if known is None or _order(consent) > _order(known):
                self._latest[consent.subject, consent.purpose] = consent

    def latest(self, subject: str, purpose: Purpose) -> Consent | None:
        """The statement in force; None where there is none."""
        return self._latest.get((subject, purpose))


def _order(consent: Consent) -> tuple[datetime, bool]:
    return consent.ts, consent.state == "withdrawn"  # at equal times a withdrawal wins


def read_statements(lake: Lake) -> Statements:
    """The statements of all subjects; consents belong to no single flow."""
    return Statements(lake.records("consents", Consent))
