"""Labelling elsewhere: items leave as a file of another tool, judgements come back as labels.

What leaves was agreed to; what comes back gets the split of its subject, whatever the file says. A file can be
imported as often as one likes: who says again what they said already adds nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from flywheel.capture.import_format import RefusedError, as_object
from flywheel.capture.import_report import ImportReport
from flywheel.capture.import_run import Import, run
from flywheel.capture.importer import import_lock
from flywheel.capture.sources import find
from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.store import sync_file
from flywheel.lake.tables import Lake
from flywheel.records import Inference, Label, Purpose, Record
from flywheel.review.compare import served_first
from flywheel.review.exchange import FORMATS, Format
from flywheel.review.exchange.common import Annotation, FormatProblem, Reading, Slip
from flywheel.review.guideline import keep_guideline, read_guideline
from flywheel.review.labels import add_labels, make_label, read_labels, read_splits
from flywheel.review.queue import QueueItem, usable
from flywheel.review.settle import Question, matter_of
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.exchange.labelling import Source, allowed_now, queue

_PURPOSES: Final[dict[str, Purpose]] = {"evaluation": "evaluation", "third_party": "third_party"}


class LabelExport(Record):
    """What was written, and how to use it."""

    path: str
    format: str
    question: Question
    items: int
    not_consented: int = Field(description="items left out because their people do not agree to the purpose now")
    setup: str = Field(description="what to paste into the other tool")

    def summary(self) -> str:
        """One line for a person."""
        left = f"; {self.not_consented:,} left out without consent" if self.not_consented else ""
        return f"{self.items:,} items to {self.path} ({self.format}){left}"


def export_items(
    lake: Lake,
    config: FlywheelConfig,
    *,
    out: Path,
    format_: str,
    source: Source = "random",
    question: Question = "judge",
    annotator: str = "",
    limit: int | None = None,
    purpose: str = "evaluation",
    force: bool = False,
) -> LabelExport:
    """Write the head of a labelling queue for another tool; the file appears whole or not at all.

    Args:
        lake: where the answers are.
        config: the flow.
        out: the file.
        format_: one of ``FORMATS``.
        source: which queue (``workflow.labelling.queue``); not the adjudicator's, whom the tools cannot show what
            others said.
        question: what is asked.
        annotator: whose queue; only ``second`` needs it.
        limit: at most so many items.
        purpose: what people must agree to besides evaluation: third_party for a tool outside the house.
        force: replace a file that is there.

    Raises:
        UsageError: an unknown format or purpose, or the file is there or cannot be written.
    """
    tool = _format(format_)
    if purpose not in _PURPOSES:
        raise UsageError(f"there is no purpose '{purpose}' for labels; known: {', '.join(_PURPOSES)}")
    if out.exists() and not force:
        raise UsageError(f"{out} is there already; name another file, or replace it with --force")
    guideline = read_guideline(config.labels.guideline)
    keep_guideline(lake, config.flow, guideline)
    items = queue(lake, config, source=source, question=question, annotator=annotator)[:limit]
    allowed = allowed_now(lake, config.flow, [item.inference for item in items], _PURPOSES[purpose])
    chosen = [item for item in items if item.inference.inference_id in allowed]
    records = [
        tool.write(item, Slip(config.flow, question, guideline.version, served_first(item, config.seed)))
        for item in chosen
    ]
    _write(out, records)
    return LabelExport(
        path=str(out), format=format_, question=question, items=len(records), not_consented=len(items) - len(chosen),
        setup=tool.setup(question, guideline),
    )  # fmt: skip


def import_labels(
    lake: Lake,
    config: FlywheelConfig,
    place: str | Path,
    *,
    format_: str,
    annotator: str | None = None,
    strict: bool = False,
    rejects: Path | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Bring judgements made in another tool into the lake.

    Args:
        lake: where labels go.
        config: the flow, its splits and seed.
        place: a file, a folder, or ``s3://bucket/key-or-prefix``.
        format_: one of ``FORMATS``.
        annotator: who made all of them; default: as the file names them.
        strict: store nothing if a record is bad.
        rejects: file of the bad records; default ``<home>/rejects/<digest>.jsonl``.
        progress: is told of records.

    Raises:
        UsageError: an unknown format, or nothing to read. InputError: with ``strict``, names record and field.
        BusyError: somebody is being erased right now.
    """
    tool, progress = _format(format_), progress or Silent()
    progress.start("import", str(place))
    files = find(place, config.lake.storage_options)
    version = read_guideline(config.labels.guideline).version
    with import_lock(config, exclusive=False):
        items = _open_items(lake, config)

        def reader() -> _Reader:
            return _Reader(tool, format_, Reading(config.flow, items, annotator, version))

        job = Import(str(place), files, reader, lambda rows: _store(lake, config, rows))
        report = run(job, strict=strict, rejects=rejects, home=config.home_path(), progress=progress)
    progress.finish(report.summary())
    return report


class _Reader:
    """One record, the annotations in it."""

    def __init__(self, tool: Format, name: str, reading: Reading) -> None:
        self.format: str | None = name
        self.ignored = reading.ignored
        self._tool, self._reading = tool, reading

    def read(self, line: bytes) -> list[Annotation]:
        """What people said about one item.

        Raises:
            RefusedError: the record is none, foreign, or contradicts itself.
        """
        try:
            return self._tool.read(as_object(line), self._reading)
        except FormatProblem as problem:
            raise RefusedError(problem.field, problem.reason) from problem


def _open_items(lake: Lake, config: FlywheelConfig) -> dict[str, QueueItem]:
    """What may be judged now, by inference id."""
    inferences = lake.records("inferences", Inference, flow=config.flow)
    items = usable(
        inferences, consented=allowed_now(lake, config.flow, inferences), config=config.labels, seed=config.seed,
        decided=read_splits(lake, config.flow),
    )  # fmt: skip
    return {item.inference.inference_id: item for item in items}


def _store(lake: Lake, config: FlywheelConfig, rows: Sequence[list[Annotation]]) -> list[Counter[str]]:
    """Append what is new; what became of each record."""
    held = {(label.annotator, matter_of(label)): label for label in read_labels(lake, config.flow)}
    known = set(lake.read("labels", flow=config.flow, columns=["label_id"])["label_id"].to_pylist())
    fresh: list[Label] = []
    outcomes: list[Counter[str]] = []
    for said in rows:
        outcome = Counter[str]()
        for one in said:
            label = _label(one)
            last = held.get((label.annotator, matter_of(label)))
            again = last is not None and (last.kind, last.correction, last.value) == one.given
            outcome["duplicates" if again or label.label_id in known else "labels"] += 1
            if not again and label.label_id not in known:
                fresh.append(label)
                known.add(label.label_id)
                held[label.annotator, matter_of(label)] = label
        outcomes.append(outcome)
    add_labels(lake, fresh)
    return outcomes


def _label(one: Annotation) -> Label:
    item: QueueItem = one.item
    return make_label(
        item.inference, annotator=one.annotator, kind=one.given.kind, split=item.split, correction=one.given.correction,
        value=one.given.value, other_answer=one.other_answer, seconds=one.seconds, origin=one.origin, ts=one.ts,
        guideline_version=one.guideline_version,
    )  # fmt: skip


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UsageError(f"there is no label format '{name}'; known: {', '.join(FORMATS)}")
    return FORMATS[name]


def _write(out: Path, records: list[dict[str, Any]]) -> None:
    draft = out.with_name(f".{out.name}.draft")
    try:
        draft.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
        sync_file(draft)
        draft.replace(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); name another file") from error
    finally:
        draft.unlink(missing_ok=True)
