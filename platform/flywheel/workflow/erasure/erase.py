"""Forget one person: take what they did out of every store, and mark what was made of it.

The order makes it safe to kill at any point, to run again, and to run while traffic goes on:

1. A tombstone is written. From then on shippers, ingesters and importers drop the person's events up to that moment.
2. Whoever may still write such rows is waited for: turns and imports by a lock, ingesters by the end of their batch.
3. Datasets and models are marked, then the stores are swept; what all else is traced from goes last.
4. The files that held the rows are deleted, and the person's key is destroyed, so that no manifest can be matched.

Everything is found anew in every run: a rerun does what is left, a later one sweeps what came late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from typing import Final

from filelock import FileLock, Timeout
from pydantic import Field

from flywheel.capture import batches
from flywheel.capture import erase as raw
from flywheel.capture.importer import import_lock
from flywheel.capture.ingest import begun_batch, ingest_all
from flywheel.capture.outbox import outbox_folder
from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError, UsageError
from flywheel.index.files import erase_rows
from flywheel.lake.erasures import bury, tombstones
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import Record, utcnow
from flywheel.rollout import routing
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.erasure import erase_turns as turns
from flywheel.workflow.erasure.trace import Trace, trace
from flywheel.workflow.turns.lease import EVALUATING, RANKING, only_one

SETTLE_S: Final = 60.0
"""How long an ingester of another flow may take to end the batch it is in."""
QUEUE_S: Final = 600.0
"""How long one erasure waits for another of the same home."""


class Erasure(Record):
    """What was removed and where, and what is marked. Stored in the lake as the report of the erasure."""

    tenant: str
    subject: str
    until: datetime = Field(description="what happened up to this moment is erased")
    dry: bool = Field(default=False, description="nothing was changed: the numbers say what would be")
    again: datetime | None = Field(default=None, description="the person was erased before, up to this moment")
    removed: dict[str, int] = Field(default_factory=dict, description="store -> rows or entries")
    marked: list[str] = Field(default_factory=list, description="manifests of datasets, models and what led to them")
    live: dict[str, str] = Field(default_factory=dict, description="flow -> marked model that goes on serving")
    ended_turns: list[str] = Field(default_factory=list, description="unfinished turns whose rows are gone")
    unreadable: list[str] = Field(default_factory=list, description="raw events that nobody can look into")

    @property
    def total(self) -> int:
        """Rows and entries, in all stores."""
        return sum(self.removed.values())


@dataclass
class _Work:
    """One erasure under way, or (``dry``) a look at what it would do."""

    lake: Lake
    config: FlywheelConfig
    person: raw.RawPerson
    dry: bool
    unreadable: list[str] = field(default_factory=list)

    @cached_property
    def trace(self) -> Trace:
        """Found when first asked for, which must be before anything is removed."""
        answers = raw.raw_answers(outbox_folder(self.config), self.lake.store, self.person)
        return trace(self.lake, self.person.subject, self.person.until, answers=answers)

    @cached_property
    def known(self) -> raw.RawPerson:
        """The person with all their answers."""
        return self.person.with_answers(self.trace.answers)

    def stores(self) -> dict[str, Callable[[], int]]:
        """Where rows lie outside the tables, and how they go."""
        store, home, dry = self.lake.store, self.config.home_path(), self.dry
        return {
            "outboxes": lambda: self._note(raw.erase_outboxes(outbox_folder(self.config), self.known, dry=dry)),
            "landing": lambda: self._note(raw.erase_landing(store, self.known, dry=dry)),
            "quarantine": lambda: self._note(raw.erase_quarantine(store, self.known, dry=dry)),
            "turns": lambda: turns.erase_artifacts(store, self.trace, dry=dry),
            "working copies": lambda: turns.erase_work(home, self.trace, dry=dry),
            "reports": lambda: turns.erase_reports(home, self.trace, dry=dry),
            "drops": lambda: turns.erase_drops(store, self.trace, dry=dry),
            "near-duplicate index": lambda: erase_rows(store, self.trace.answers, dry=dry),
            "review notes": lambda: turns.erase_markers(store, self.trace, dry=dry),
        }

    def tables(self) -> dict[str, Callable[[], int]]:
        """The tables in the order in which they may go, and how their rows go."""
        act = self.lake.count if self.dry else self.lake.delete
        return {table: partial(act, table, where) for table, where in self.trace.rows().items()}

    def _note(self, result: raw.Swept) -> int:
        self.unreadable += result.unreadable
        return result.rows


def look(config: FlywheelConfig, user: str) -> Erasure:
    """What ``forget`` would remove and mark now. Changes nothing.

    Raises:
        UsageError: no user is named, or the lake is empty. ConfigError: it was filled under another master key.
    """
    lake = open_lake(config)
    keyring = _keyring(lake, config, claim=False)
    work = _Work(lake, config, _person(config, keyring, user, utcnow()), dry=True)
    removed = {name: sweep() for name, sweep in {**work.stores(), **work.tables()}.items()}
    return _report(work, removed, turns.mark_descendants(work.lake, work.trace, dry=True))


def forget(config: FlywheelConfig, user: str, *, progress: Progress | None = None) -> Erasure:
    """Remove everything of ``user`` up to now from the lake and from this machine, for every flow of the tenant.

    Killed at any point, or refused because something is running: run it again.

    Args:
        config: any flow of the tenant; its home holds the outboxes and the keys.
        user: as the product names the person; a session without a user is ``anonymous:<session>``.
        progress: told about every store.

    Raises:
        UsageError: no user is named, or the lake is empty. ConfigError: it was filled under another master key.
        BusyError: a turn, an import or an ingester is in the way; late events are dropped, nothing is removed yet.
    """
    progress = progress or Silent()
    lake = open_lake(config)
    keyring = _keyring(lake, config)
    subject = _person(config, keyring, user, utcnow()).subject
    stone = bury(lake.store, config.tenant, subject)
    with _alone(config):
        earlier = [item for item in tombstones(lake.store, config.tenant, subject) if item.until < stone.until]
        done_before = bool(earlier) and lake.store.exists(earlier[-1].report_key)
        _settle(lake, config, keyring, progress)
        work = _Work(lake, config, _person(config, keyring, user, stone.until), dry=False)
        progress.start("marks", "datasets and models")
        marked = turns.mark_descendants(lake, work.trace)
        progress.finish(f"{len(marked):,} datasets, models and what led to them")
        removed = {name: _swept(name, sweep, progress) for name, sweep in work.stores().items()}
        rows = {name: _swept(name, sweep, progress) for name, sweep in work.tables().items()}
        ended = turns.end_turns(lake.store) if earlier or any(rows.values()) else []
        _scrub(work, progress, ended)
        keyring.destroy_subject_key(lake.store, subject)
        again = earlier[-1].until if done_before else None
        report = _report(work, removed | rows, marked).model_copy(update={"again": again, "ended_turns": ended})
        lake.store.put_if_absent(stone.report_key, report.model_dump_json(indent=1).encode())
    return report


def _keyring(lake: Lake, config: FlywheelConfig, *, claim: bool = True) -> Keyring:
    """The keys of the lake's pseudonyms: under others nobody is found, and everybody would count as forgotten."""
    outbox = outbox_folder(config)
    if not lake.store.folders("") and not (outbox.is_dir() and any(outbox.iterdir())):
        raise UsageError(f"{lake.store.uri} is empty, so nobody can be forgotten in it; check home and lake.uri")
    return Keyring(config.home_path()).check_belongs(lake.store, claim=claim)


def _person(config: FlywheelConfig, keyring: Keyring, user: str, until: datetime) -> raw.RawPerson:
    if not user:
        raise UsageError("Name the person: --user ID, as the product sends it.")
    subject = keyring.pseudonym(config.tenant, user)
    return raw.RawPerson(config.tenant, user, subject, until)


@contextmanager
def _alone(config: FlywheelConfig) -> Iterator[None]:
    """Nobody else on this machine erases, imports, evaluates, or runs a turn."""
    home = config.home_path()
    (home / "run").mkdir(parents=True, exist_ok=True)
    flows = {config.flow, *(path.name for path in (home / "turns").glob("*"))}
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(home / "run" / "forget.lock", timeout=QUEUE_S))
            for flow in sorted(flows):
                for work in ("turn", EVALUATING, RANKING):  # they hold rows in memory, and store what they made of them
                    held.enter_context(only_one(config.model_copy(update={"flow": flow}), work))
            held.enter_context(import_lock(config, exclusive=True))
        except Timeout as error:
            raise BusyError("Another person is still being erased. Run the same command again later.") from error
        except BusyError as error:
            raise BusyError(f"{error} Nothing is removed yet: run the same command again then.") from error
        yield


def _settle(lake: Lake, config: FlywheelConfig, keyring: Keyring, progress: Progress) -> None:
    """Bring the batches to their end that an ingester began before it could see the tombstone."""
    progress.start("ingestion", "what is on its way")
    report = ingest_all(lake, config, keyring)
    deadline = time.monotonic() + SETTLE_S
    for flow in lake.store.folders("batches"):
        begun = begun_batch(lake, flow)
        while begun is not None and batches.read_done(lake.store, flow, begun) is None:
            if time.monotonic() > deadline:
                raise BusyError(
                    f"The ingester of the flow '{flow}' is in the middle of batch {begun} and may still store rows of "
                    "this person. Let it finish (flywheel up for that flow), then run the same command again."
                )
            time.sleep(0.2)
    progress.finish(f"{report.erased:,} events of erased people dropped")


def _swept(name: str, sweep: Callable[[], int], progress: Progress) -> int:
    progress.start(name)
    removed = sweep()
    progress.finish(f"{removed:,} removed")
    return removed


def _scrub(work: _Work, progress: Progress, ended: list[str]) -> None:
    """Delete the files that held the rows, and look into those that no version names: writers may have died there.

    Turns that are built on older versions of the tables have ended before.
    """
    progress.start("files")
    files = sum(len(work.lake.scrub(table, where)) for table, where in work.trace.rows().items())
    files += work.lake.store.remove_staged()
    progress.finish(f"{files:,} files deleted" + (f", {len(ended)} unfinished turns ended" if ended else ""))


def _report(work: _Work, removed: dict[str, int], marked: list[str]) -> Erasure:
    live: dict[str, str] = {}
    for flow in work.lake.store.folders("routing"):
        truth = routing.current(work.lake.store, flow)
        if truth is not None and f"model/{truth.live.version}" in marked:
            live[flow] = truth.live.version
    return Erasure(
        tenant=work.person.tenant,
        subject=work.person.subject,
        until=work.person.until,
        dry=work.dry,
        removed=removed,
        marked=marked,
        live=live,
        unreadable=work.unreadable,
    )
