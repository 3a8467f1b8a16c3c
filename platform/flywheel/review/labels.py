"""Labels in the lake: appended one by one or in bulk, retracted by a marker, read as what holds now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from flywheel.errors import BusyError
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake
from flywheel.records import Inference, Label, LabelKind, Split, utcnow
from flywheel.review.settle import current, opinions

_ATTEMPTS = 20


def make_label(
    inference: Inference,
    *,
    annotator: str,
    kind: LabelKind,
    split: Split,
    correction: str | None = None,
    value: float | None = None,
    other_answer: str | None = None,
    other_version: str | None = None,
    adjudicates: bool = False,
    seconds: float | None = None,
    guideline_version: str = "1",
    origin: Literal["random", "curated"] = "random",
    ts: datetime | None = None,
) -> Label:
    """A label whose id is its content: the same statement, made at the same time, is the same row."""
    ts = ts or utcnow()
    statement = [part for part in (value, other_answer, adjudicates) if part not in (None, False)]
    identity = (inference.flow, inference.inference_id, annotator, ts.isoformat(), kind, correction, *statement)
    return Label(
        label_id=content_id("label", *identity),
        inference_id=inference.inference_id,
        flow=inference.flow,
        subject=inference.subject,
        annotator=annotator,
        ts=ts,
        kind=kind,
        correction=correction,
        value=value,
        other_answer=other_answer,
        other_version=other_version,
        adjudicates=adjudicates,
        seconds=seconds,
        guideline_version=guideline_version,
        split=split,
        origin=origin,
    )


def add_labels(lake: Lake, labels: Sequence[Label]) -> int:
    """Append labels durably, each exactly once; how many were new.

    Commits are numbered per flow. A racing writer that takes the number first makes this one look
    again at what is stored and try the next number.

    Raises:
        BusyError: other writers won every attempt.
    """
    if not labels:
        return 0
    flow = labels[0].flow
    app = f"labels/{flow}"
    for _ in range(_ATTEMPTS):
        last = lake.last_committed("labels", app)
        known = set(lake.read("labels", flow=flow, columns=["label_id"])["label_id"].to_pylist())
        fresh = list({label.label_id: label for label in labels if label.label_id not in known}.values())
        if not fresh:
            return 0
        if lake.append("labels", fresh, app=app, version=0 if last is None else last + 1):
            return len(fresh)
    raise BusyError(f"the labels of flow '{flow}' are being written by many others; try again in a moment")


def retract(lake: Lake, label: Label) -> None:
    """Take a label back. The row stays, a marker beside the table says that it no longer counts."""
    lake.store.put_if_absent(_marker(label.flow, "retracted", label.label_id), b"")


def skip(lake: Lake, flow: str, annotator: str, inference_id: str) -> None:
    """Remember that this annotator would not judge this answer."""
    lake.store.put_if_absent(_marker(flow, f"skipped/{quote(annotator, safe='')}", inference_id), b"")


def unskip(lake: Lake, flow: str, annotator: str, inference_id: str) -> None:
    """Take a skip back."""
    lake.store.delete([_marker(flow, f"skipped/{quote(annotator, safe='')}", inference_id)])


def skipped(lake: Lake, flow: str, annotator: str) -> set[str]:
    """Inference ids that this annotator skipped: they go to the end of the queue."""
    prefix = _marker(flow, f"skipped/{quote(annotator, safe='')}", "")
    return {key.rsplit("/", 1)[-1] for key in lake.store.list(prefix)}


def read_labels(
    lake: Lake, flow: str, *, split: Split | None = None, origin: Literal["random", "curated"] | None = None
) -> list[Label]:
    """The labels that hold now: an annotator's latest word on each question, retracted ones left out, by time."""
    gone = {key.rsplit("/", 1)[-1] for key in lake.store.list(_marker(flow, "retracted", ""))}
    rows = current(label for label in lake.records("labels", Label, flow=flow) if label.label_id not in gone)
    return [label for label in rows if split in (None, label.split) and origin in (None, label.origin)]


def read_splits(lake: Lake, flow: str) -> dict[str, Split]:
    """The split of every subject that was ever labelled: that of its first label, retracted ones included."""
    rows = lake.read("labels", flow=flow, columns=["subject", "split", "ts", "label_id"]).to_pylist()
    oldest_last = sorted(rows, key=lambda row: (row["ts"], row["label_id"]), reverse=True)
    return {row["subject"]: row["split"] for row in oldest_last}


def latest_per_inference(labels: Iterable[Label]) -> dict[str, Label]:
    """The verdict that counts on each answer: the adjudicator's, else the latest where all annotators agree.

    Answers on which annotators disagree are not among them, nor those that were only rated or compared.
    """
    judged = {matter.inference_id: one for matter, one in opinions(labels).items() if matter.question == "judge"}
    return {inference_id: one.counts for inference_id, one in judged.items() if one.counts is not None}


def _marker(flow: str, kind: str, name: str) -> str:
    return f"labels/{flow}/{kind}/{name}"
