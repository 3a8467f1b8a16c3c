"""Looks of the monitor in the lake: ``goodhart/<flow>/looks/<turn>.json``, and beside them the alarms people settled.

Each is created put-if-absent: no turn is tested twice. They hold counts and means, nothing of a person.
"""

from __future__ import annotations

from datetime import datetime

from flywheel.errors import UsageError
from flywheel.lake.store import ObjectStore
from flywheel.quality.goodhart.tables import Examination
from flywheel.records import Record, utcnow


class Settled(Record):
    """A person looked into an alarm. It is kept, and no longer holds turns back."""

    turn: str
    at: datetime
    actor: str
    reason: str


def looks(store: ObjectStore, flow: str) -> list[Examination]:
    """All that were stored, by turn."""
    return [Examination.model_validate_json(store.get(key)) for key in sorted(store.list(_prefix(flow, "looks")))]


def look_of(store: ObjectStore, flow: str, turn: str) -> Examination | None:
    """One turn's; None where it was not tested (yet)."""
    found = store.get_or_none(_key(flow, "looks", turn))
    return None if found is None else Examination.model_validate_json(found)


def keep(store: ObjectStore, flow: str, look: Examination) -> Examination:
    """Store a look; the first one wins, and what is stored is returned."""
    key = _key(flow, "looks", look.turn)
    if store.put_if_absent(key, look.model_dump_json(indent=1).encode()):
        return look
    return Examination.model_validate_json(store.get(key))


def settled(store: ObjectStore, flow: str) -> set[str]:
    """Turns whose alarm somebody dealt with."""
    return {key.rsplit("/", 1)[-1].removesuffix(".json") for key in store.list(_prefix(flow, "settled"))}


def standing(store: ObjectStore, flow: str) -> list[Examination]:
    """Looks with an alarm that nobody settled, oldest first."""
    closed = settled(store, flow)
    return [look for look in looks(store, flow) if look.alarm and look.turn not in closed]


def settle(store: ObjectStore, flow: str, *, reason: str, actor: str) -> list[Settled]:
    """Note that somebody dealt with every alarm that stands.

    Raises:
        UsageError: there is none, or no reason.
    """
    alarms = standing(store, flow)
    if not alarms:
        raise UsageError(f"No Goodhart alarm of '{flow}' waits for anybody; `flywheel goodhart` shows the last look.")
    if not reason.strip():
        raise UsageError("Say what was found or done about it: flywheel goodhart --settle 'thumbs left the filter'")
    made = [Settled(turn=look.turn, at=utcnow(), actor=actor, reason=reason.strip()) for look in alarms]
    for one in made:
        store.put_if_absent(_key(flow, "settled", one.turn), one.model_dump_json(indent=1).encode())
    return made


def _prefix(flow: str, kind: str) -> str:
    return f"goodhart/{flow}/{kind}/"


def _key(flow: str, kind: str, turn: str) -> str:
    return f"{_prefix(flow, kind)}{turn}.json"
