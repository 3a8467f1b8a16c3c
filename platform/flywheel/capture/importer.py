"""Import: bring existing logs and evaluation cases into the lake, each row once however often it is run.

A row's identity is its content, and a file's rows are committed in chunks named by the file's content:
a killed import goes on where it stopped, and a second one changes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import pyarrow.compute as pc
from pydantic import Field

from flywheel.capture.erased import EPOCH, Erased
from flywheel.capture.import_format import ImportedCase, ImportedInteraction
from flywheel.capture.jsonl import check
from flywheel.capture.known import Known, key_of
from flywheel.capture.privatise import TEXT_REMOVED, Privatiser, link_of
from flywheel.capture.statements import read_statements
from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError
from flywheel.lake.erasures import read_erasures
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import content_id
from flywheel.lake.schemas import to_arrow
from flywheel.lake.tables import Lake
from flywheel.records import EvalCase, Feedback, Inference, Record, feedback_id, utcnow
from flywheel.telemetry import Progress, Silent

CHUNK: Final = 2_000
"""Lines in one commit."""
_MAX_DAYS: Final = 4_000

R = TypeVar("R", Inference, Feedback)
T = TypeVar("T")


class ImportReport(Record):
    """What an import did."""

    file: str
    lines: int = Field(description="lines of the file that hold a row")
    inferences: int = 0
    feedback: int = 0
    cases: int = 0
    duplicates: int = Field(default=0, description="rows that were in the lake already, or twice in the file")
    erased: int = Field(default=0, description="rows of erased people, left out")
    text_removed: int = Field(default=0, description="interactions stored without text because nobody consented")

    def summary(self) -> str:
        """One line for a person."""
        new = {"interactions": self.inferences, "reactions": self.feedback, "cases": self.cases}
        parts = [f"{count:,} {name}" for name, count in new.items() if count] or ["nothing new"]
        if self.duplicates:
            parts.append(f"{self.duplicates:,} rows were there already")
        if self.erased:
            parts.append(f"{self.erased:,} rows of erased people were left out")
        if self.text_removed:
            parts.append(f"{self.text_removed:,} stored without text (no consent)")
        return f"{self.file}: {self.lines:,} lines; " + ", ".join(parts)


def import_interactions(
    lake: Lake, config: FlywheelConfig, keyring: Keyring, path: Path, *, progress: Progress | None = None
) -> ImportReport:
    """Import a file of interactions (one ``ImportedInteraction`` a line) as inferences and feedback.

    Lines without ``ts`` take the time at which a file of this content was first imported. What an erased person
    did before the erasure is left out, and so is a line of theirs without ``ts``: it cannot show that it is newer.

    Raises:
        InputError: names file, line and field; nothing of the file is stored.
        BusyError: somebody is being erased right now.
    """
    progress = progress or Silent()
    progress.start("import", f"checking {path.name}")
    file = check(path, ImportedInteraction, progress)
    with import_lock(config, exclusive=False):
        first_time = _first_time(lake, file.digest)
        erased = Erased(read_erasures(lake.store), keyring)
        privatiser = Privatiser(keyring, config.privacy, read_statements(lake))
        committer = _Committer(lake, privatiser, f"import/{file.digest}")
        report, read = ImportReport(file=str(path), lines=file.rows), 0
        for number, chunk in enumerate(file.chunks(CHUNK), start=1):
            rows = [_rows(line, config.tenant, first_time) for line in chunk]
            kept = _spared(rows, chunk, erased)
            report = _plus(report, erased=_count(rows) - _count(kept), **committer.commit(number, kept))
            read += len(chunk)
            progress.update(read, file.rows)
    progress.finish(report.summary())
    return report


@contextmanager
def import_lock(config: FlywheelConfig, *, exclusive: bool) -> Iterator[None]:
    """Imports of this home share it; an erasure holds it alone, so that no import brings back what it removes.

    Raises:
        BusyError: the other kind holds it.
    """
    path = config.home_path() / "run" / "import.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = "An import is running" if exclusive else "A person is being erased"
            raise BusyError(f"{other}; run the same command again when that has ended.") from error
        yield


def import_cases(lake: Lake, config: FlywheelConfig, path: Path, *, progress: Progress | None = None) -> ImportReport:
    """Import a file of evaluation cases (one ``ImportedCase`` a line). The texts are stored as they are.

    Raises:
        InputError: names file, line and field; nothing of the file is stored.
    """
    progress = progress or Silent()
    progress.start("import", f"checking {path.name}")
    file = check(path, ImportedCase, progress)
    seen = {str(row) for row in lake.read("eval_cases", columns=["case_id"])["case_id"].to_pylist()}
    report, read = ImportReport(file=str(path), lines=file.rows), 0
    for number, chunk in enumerate(file.chunks(CHUNK), start=1):
        cases = [_case(line, config.flow) for line in chunk]
        fresh = [case for case in _unique(cases, lambda case: case.case_id) if case.case_id not in seen]
        stored = lake.append("eval_cases", fresh, app=f"import-cases/{file.digest}", version=number)
        seen.update(case.case_id for case in fresh)
        new = len(fresh) if stored else 0
        report = _plus(report, cases=new, duplicates=len(cases) - new)
        read += len(chunk)
        progress.update(read, file.rows)
    progress.finish(report.summary())
    return report


def uuid7_of(ts: datetime, *parts: str) -> str:
    """A UUIDv7 (RFC 9562, section 5.7) of a time and a content: its random bits are the content's SHA-256."""
    millis = int(ts.timestamp() * 1000)
    bits = int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:10], "big")
    value = (millis << 80) | (7 << 76) | (bits >> 68 << 64) | (0b10 << 62) | (bits & (1 << 62) - 1)
    return str(uuid.UUID(int=value))


def _first_time(lake: Lake, digest: str) -> datetime:
    """When a file of this content was first imported; remembered in the lake, so that its ids stay the same."""
    key = f"imports/{digest}"
    lake.store.put_if_absent(key, utcnow().isoformat().encode())
    return datetime.fromisoformat(lake.store.get(key).decode())


def _rows(line: ImportedInteraction, tenant: str, first_time: datetime) -> tuple[Inference, list[Feedback]]:
    ts = line.ts or first_time
    texts = [part for message in line.messages for part in (message.role, message.content)]
    inference_id = uuid7_of(ts, tenant, line.flow, line.user, line.session_id or "", line.model, line.response, *texts)
    inference = Inference(
        inference_id=inference_id,
        flow=line.flow,
        tenant=tenant,
        ts=ts,
        session_id=line.session_id,
        subject=line.user,
        consent=line.consent,
        traffic_kind="import",
        model_version=line.model,
        messages=line.messages,
        choices=[line.response],
        finish_reason="stop",
    )
    feedback = [
        Feedback(
            feedback_id=feedback_id(
                tenant, inference_id, f"import\x1f{reaction.model_dump_json(exclude_defaults=True)}"
            ),
            inference_id=inference_id,
            flow=line.flow,
            tenant=tenant,
            ts=reaction.ts or ts,
            subject=reaction.user or line.user,
            kind=reaction.kind,
            value=reaction.value,
            text=reaction.text,
        )
        for reaction in line.feedback
    ]
    return inference, feedback


def _spared(
    rows: Sequence[tuple[Inference, list[Feedback]]], lines: Sequence[ImportedInteraction], erased: Erased
) -> list[tuple[Inference, list[Feedback]]]:
    """The rows that nobody's erasure covers; an inference takes the reactions to it with it."""
    kept = []
    for (inference, feedback), line in zip(rows, lines, strict=True):
        if erased.user(inference.tenant, inference.subject, line.ts or EPOCH):
            continue
        dated = zip(feedback, line.feedback, strict=True)
        spared = [row for row, sent in dated if not erased.user(row.tenant, row.subject, sent.ts or line.ts or EPOCH)]
        kept.append((inference, spared))
    return kept


def _count(rows: Sequence[tuple[Inference, list[Feedback]]]) -> int:
    return sum(1 + len(feedback) for _, feedback in rows)


class _Committer:
    """Commits the chunks of one file."""

    def __init__(self, lake: Lake, privatiser: Privatiser, app: str) -> None:
        self._lake, self._privatiser, self._app = lake, privatiser, app
        self._known: dict[str, Known] = {}
        tables = ("inferences", "feedback")
        self._last = {table: lake.last_committed(table, app) or 0 for table in tables}

    def commit(self, version: int, rows: Sequence[tuple[Inference, list[Feedback]]]) -> dict[str, int]:
        """One chunk; returns what to add to the report. A chunk that is there already costs nothing."""
        total = _count(rows)
        if min(self._last.values()) >= version:
            return {"duplicates": total}
        inferences = [self._privatiser.inference(row) for row, _ in rows]
        reactions = [
            self._privatiser.feedback(reaction, link_of(inference))
            for inference, (_, feedback) in zip(inferences, rows, strict=True)
            for reaction in feedback
        ]
        new_rows = self._append("inferences", inferences, version)
        new_reactions = self._append("feedback", reactions, version)
        return {
            "inferences": len(new_rows),
            "feedback": len(new_reactions),
            "duplicates": total - len(new_rows) - len(new_reactions),
            "text_removed": sum(TEXT_REMOVED in row.tags for row in new_rows),
        }

    def _append(self, table: str, rows: Sequence[R], version: int) -> list[R]:
        """Commit the rows that no earlier line and no other file has brought; returns them."""
        if self._last[table] >= version:
            return []
        there: set[tuple[Any, ...]] = set()
        for flow, group in _by_flow(rows).items():
            there |= self._of(flow).present(table, group)
        fresh = [row for row in _unique(rows, lambda row: key_of(table, row)) if key_of(table, row) not in there]
        data = to_arrow(table, fresh)
        if not self._lake.append(table, data, app=self._app, version=version):
            return []
        for flow in _by_flow(fresh):
            self._of(flow).add(table, data.filter(pc.field("flow") == flow))
        return fresh

    def _of(self, flow: str) -> Known:
        return self._known.setdefault(flow, Known(self._lake, flow, max_partitions=_MAX_DAYS))


def _case(line: ImportedCase, flow: str) -> EvalCase:
    flow = line.flow or flow
    case_id = content_id("case", flow, line.suite, line.messages, line.check)
    return EvalCase(
        case_id=case_id,
        flow=flow,
        suite=line.suite,
        messages=line.messages,
        check=line.check,
        origin="import",
        slice=line.slice,
    )


def _by_flow(rows: Sequence[R]) -> dict[str, list[R]]:
    groups: dict[str, list[R]] = {}
    for row in rows:
        groups.setdefault(row.flow, []).append(row)
    return groups


def _unique(rows: Sequence[T], key: Callable[[T], object]) -> list[T]:
    """The first row of each key, in order."""
    return list({key(row): row for row in reversed(rows)}.values())[::-1]


def _plus(report: ImportReport, **more: int) -> ImportReport:
    return report.model_copy(update={name: getattr(report, name) + count for name, count in more.items()})
