"""Import: bring existing logs and evaluation cases into the lake, each row once however often it is imported.

Good lines are stored and bad ones listed; a killed import goes on where it stopped, and a second one, of the
same file or of another with the same rows, changes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from flywheel.capture.case_reader import CaseReader, texts
from flywheel.capture.erased import EPOCH, Erased
from flywheel.capture.import_commit import Appender, Key, StoredCases, StoredTraffic
from flywheel.capture.import_format import ImportedCase, ImportedInteraction
from flywheel.capture.import_report import ImportReport
from flywheel.capture.import_run import Import, run
from flywheel.capture.known import key_of
from flywheel.capture.leaks import scan
from flywheel.capture.privatise import Link, Privatiser
from flywheel.capture.readers import InteractionReader, Reading
from flywheel.capture.readers.lm_eval import Task, TaskReader
from flywheel.capture.sources import LocalFile, find
from flywheel.capture.statements import read_statements
from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError
from flywheel.lake.erasures import read_erasures
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake
from flywheel.records import Check, EvalCase, Feedback, Inference, feedback_id, utcnow
from flywheel.telemetry import Progress, Silent

UNDATED = "imports/undated"
"""Object that holds the time of all lines without one."""


def import_interactions(
    lake: Lake,
    config: FlywheelConfig,
    keyring: Keyring,
    place: str | Path,
    *,
    reading: Reading | None = None,
    strict: bool = False,
    rejects: Path | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import interactions as inferences and feedback.

    What an erased person did before the erasure is left out, and so is a line of theirs without ``ts``: it cannot
    show that it is newer.

    Args:
        lake: where they go.
        config: the flow, the privacy policy and the storage options.
        keyring: of pseudonyms and surrogates.
        place: a file, a folder, or ``s3://bucket/key-or-prefix``; JSON lines or JSON, gzip or not.
        reading: the format, and what lines leave open.
        strict: store nothing if a line is bad.
        rejects: file of the bad lines; default ``<home>/rejects/<digest>.jsonl``.
        progress: is told of lines.

    Raises:
        UsageError: there is nothing to read. InputError: with ``strict``, names file, line and field.
        BusyError: somebody is being erased right now.
    """
    progress = progress or Silent()
    progress.start("import", str(place))
    checked = (reading or Reading()).checked()
    files = find(place, config.lake.storage_options)
    with import_lock(config, exclusive=False):
        store = _Interactions(lake, config, keyring.check_belongs(lake.store)).store
        job = Import(str(place), files, lambda: InteractionReader(checked, config.flow), store)
        report = run(job, strict=strict, rejects=rejects, home=config.home_path(), progress=progress)
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


def import_cases(
    lake: Lake,
    config: FlywheelConfig,
    place: str | Path,
    *,
    limit: int | None = None,
    strict: bool = False,
    rejects: Path | None = None,
    validate: Callable[[Check], None] | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import evaluation cases, one ``ImportedCase`` a line; arguments as for ``import_interactions``.

    ``limit`` is the number of lines to take at the most.

    The texts are stored as written: a check must say what the prompt says, and cases are the team's own. Those
    in which personal data is found are counted, and with ``strict`` refused. ``validate`` raises ``UsageError`` for a
    check that could never mark an answer; such a line is bad.

    Raises:
        UsageError: there is nothing to read. InputError: with ``strict``, names file, line and field.
    """
    files = find(place, config.lake.storage_options)
    store = partial(_store_cases, Appender(lake, StoredCases(lake)), config)
    job = Import(str(place), files, lambda: CaseReader(config.privacy if strict else None, validate), store, limit)
    return _imported(job, config, strict=strict, rejects=rejects, progress=progress)


def import_task(
    lake: Lake,
    config: FlywheelConfig,
    path: Path,
    *,
    suite: str | None = None,
    limit: int | None = None,
    strict: bool = False,
    rejects: Path | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Import the documents of an lm-eval task as evaluation cases; see ``readers.lm_eval`` for what can be read.

    Args:
        lake: where they go.
        config: the flow.
        path: the task's YAML file.
        suite: default: the task's name.
        limit: documents at the most, from the first on.
        strict: store nothing if a document is bad.
        rejects: file of the bad documents.
        progress: is told of documents.

    Raises:
        UsageError: the task asks for what is not supported. InputError: with ``strict``, names file, line and field.
    """
    task = Task(path)
    name = suite or task.name
    files = [LocalFile(task.data_file())]
    store = partial(_store_cases, Appender(lake, StoredCases(lake)), config)
    job = Import(str(path), files, lambda: TaskReader(task, suite=name), store, limit)
    return _imported(job, config, strict=strict, rejects=rejects, progress=progress)


def _imported(
    job: Import[ImportedCase], config: FlywheelConfig, *, strict: bool, rejects: Path | None, progress: Progress | None
) -> ImportReport:
    progress = progress or Silent()
    progress.start("import", job.source)
    report = run(job, strict=strict, rejects=rejects, home=config.home_path(), progress=progress)
    progress.finish(report.summary())
    return report


def uuid7_of(ts: datetime, *parts: str) -> str:
    """A UUIDv7 (RFC 9562, section 5.7) of a time and a content: its random bits are the content's SHA-256."""
    millis = int(ts.timestamp() * 1000)
    bits = int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:10], "big")
    value = (millis << 80) | (7 << 76) | (bits >> 68 << 64) | (0b10 << 62) | (bits & (1 << 62) - 1)
    return str(uuid.UUID(int=value))


class _Interactions:
    """Stores interactions and their reactions."""

    def __init__(self, lake: Lake, config: FlywheelConfig, keyring: Keyring) -> None:
        self._tenant = config.tenant
        self._undated = _undated(lake)
        self._erased = Erased(read_erasures(lake.store), keyring)
        self._privatiser = Privatiser(keyring, config.privacy, read_statements(lake))
        self._stored = StoredTraffic(lake)
        self._appender = Appender(lake, self._stored)

    def store(self, lines: Sequence[ImportedInteraction]) -> list[Counter[str]]:
        """Append what is new; what became of each line."""
        every = [_rows(line, self._tenant, self._undated) for line in lines]
        rows = [_spared(row, line, self._erased) for row, line in zip(every, lines, strict=True)]
        new = self._appender.append(
            "inferences", [inference for inference, _ in filter(None, rows)], self._privatiser.inference
        )
        links = self._links([inference for inference, _ in filter(None, rows)])
        fresh = self._appender.append(
            "feedback",
            [reaction for _, reactions in filter(None, rows) for reaction in reactions],
            lambda reaction: self._privatiser.feedback(reaction, links[reaction.inference_id]),
        )
        outcomes = []
        for (_, sent), spared in zip(every, rows, strict=True):
            if spared is None:
                outcomes.append(Counter(erased=1 + len(sent)))
                continue
            inference, reactions = spared
            mine = _claimed(new, [key_of("inferences", inference)])
            said = _claimed(fresh, [key_of("feedback", reaction) for reaction in reactions])
            bare = mine and not links[inference.inference_id].has_text
            outcomes.append(
                Counter(
                    inferences=mine,
                    feedback=said,
                    duplicates=1 + len(reactions) - mine - said,
                    text_removed=int(bare),
                    erased=len(sent) - len(reactions),
                )
            )
        return outcomes

    def _links(self, inferences: Iterable[Inference]) -> dict[str, Link]:
        """As they are stored: a reaction gets the pseudonyms of its inference, and text only if that has some."""
        flows: dict[str, set[str]] = {}
        for row in inferences:
            flows.setdefault(row.flow, set()).add(row.inference_id)
        return {key: link for flow, ids in flows.items() for key, link in self._stored.of(flow).links(ids).items()}


def _claimed(keys: set[Key], wanted: Iterable[Key]) -> int:
    """How many of ``wanted`` are in ``keys``; they leave it, so that a row that comes twice is new once."""
    mine = keys & set(wanted)
    keys -= mine
    return len(mine)


def _undated(lake: Lake) -> datetime:
    """The time of lines without one: when this lake first imported.

    It never changes, so that a line is the same row in a file that grew or has another name.
    """
    lake.store.put_if_absent(UNDATED, utcnow().isoformat().encode())
    return datetime.fromisoformat(lake.store.get(UNDATED).decode())


def _rows(line: ImportedInteraction, tenant: str, undated: datetime) -> tuple[Inference, list[Feedback]]:
    ts = line.ts or undated
    said = [part for message in line.messages for part in (message.role, message.content)]
    # Without consent the text is not stored; the same line with consent is another row, or it could never be.
    silent = ["no consent"] if not line.consent else []
    kind = "taught" if line.taught else "import"
    apart = [kind] if line.taught else []
    inference_id = uuid7_of(
        ts, tenant, line.flow, line.user, line.session_id or "", line.model, line.response, *said, *silent, *apart
    )
    inference = Inference(
        inference_id=inference_id,
        flow=line.flow,
        tenant=tenant,
        ts=ts,
        session_id=line.session_id,
        subject=line.user,
        consent=line.consent,
        traffic_kind=kind,
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
    row: tuple[Inference, list[Feedback]], line: ImportedInteraction, erased: Erased
) -> tuple[Inference, list[Feedback]] | None:
    """What of a line nobody's erasure covers; an inference takes the reactions to it with it."""
    inference, feedback = row
    if erased.user(inference.tenant, inference.subject, line.ts or EPOCH):
        return None
    dated = zip(feedback, line.feedback, strict=True)
    return inference, [
        reaction
        for reaction, sent in dated
        if not erased.user(reaction.tenant, reaction.subject, sent.ts or line.ts or EPOCH)
    ]


def _store_cases(appender: Appender, config: FlywheelConfig, lines: Sequence[ImportedCase]) -> list[Counter[str]]:
    cases = [_case(line, config.flow) for line in lines]
    new = appender.append("eval_cases", cases, lambda case: case)
    found = scan([(str(number), text) for number, line in enumerate(lines) for _, text in texts(line)], config.privacy)
    personal = {leak.id for leak in found}
    outcomes = []
    for number, case in enumerate(cases):
        mine = _claimed(new, [(case.case_id,)])
        outcomes.append(Counter(cases=mine, duplicates=1 - mine, personal_data=int(str(number) in personal)))
    return outcomes


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
