"""Step 1: a snapshot of the lake -> candidate rows on disk, with every row that is out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from flywheel.config import FlywheelConfig
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake
from flywheel.quality.artifacts import read_rows, write_rows
from flywheel.quality.candidates import build_candidates
from flywheel.quality.dedup import exact_duplicates, near_evaluation
from flywheel.quality.reward_data import Preference, apart, gather
from flywheel.quality.rows import Candidate, Drop, Exclusions
from flywheel.records import Consent, Feedback, Inference, Record
from flywheel.telemetry import Progress, Silent

R = TypeVar("R", bound=Record)

ConsentRule = Callable[[Sequence[Inference], Sequence[Consent]], set[str]]
"""Ids of the inferences that may be trained on now; the capture package has the rule, the turn passes it."""

Snapshot = Mapping[str, int | None]
"""Table -> Delta version, so that a rerun sees the same rows. None or missing: no such table then."""


class BuildResult(Record):
    """What the next steps need. ``folder`` holds candidates.jsonl and build-drops.jsonl."""

    id: str
    folder: str
    captured: int
    consented: int
    candidates: int
    held_out: int
    corrections: int
    liked: int
    dropped: dict[str, int]

    def rows(self) -> list[Candidate]:
        """The candidates, ordered by inference id."""
        return read_rows(Path(self.folder) / "candidates.jsonl", Candidate)

    def drops(self) -> list[Drop]:
        """Every other captured inference with its reason."""
        return read_rows(Path(self.folder) / "build-drops.jsonl", Drop)

    def preferences(self) -> list[Preference]:
        """Comparisons and thumbs that the reward model learns from beside the candidates; their drops lie beside."""
        path = Path(self.folder) / "preferences.jsonl"
        return read_rows(path, Preference) if path.exists() else []


def build(
    lake: Lake,
    config: FlywheelConfig,
    *,
    snapshot: Snapshot,
    consented: ConsentRule,
    excluded: Exclusions,
    work: Path,
    progress: Progress | None = None,
) -> BuildResult:
    """Read, join, apply consent and hold-outs, remove exact duplicates, write to ``work``.

    Everything that overlaps with a text of ``excluded`` (``text.overlap``) leaves here, so that neither the
    reward model nor training ever sees what a model is judged with.
    """
    progress = progress or Silent()
    progress.start("candidates", "joining feedback")
    inferences = [row for row in read(lake, config, "inferences", Inference, snapshot) if row.traffic_kind != "shadow"]
    feedback = read(lake, config, "feedback", Feedback, snapshot)
    consents = read(lake, config, "consents", Consent, snapshot)
    allowed = consented(inferences, consents)
    rows, drops = build_candidates(inferences, feedback, consented=allowed, excluded=excluded)
    similar = near_evaluation(rows, excluded.texts, excluded.decisive)
    drops += [
        Drop(inference_id=row, reason="near_evaluation", detail=f"{overlap.kind} {overlap.score:.2f}")
        for row, overlap in similar.items()
    ]
    rows, repeated = exact_duplicates([row for row in rows if row.inference_id not in similar])
    said = gather(inferences, feedback, consented=allowed, excluded=excluded, thumbs=config.quality.reward.thumbs)
    said = apart(said, excluded.texts, excluded.decisive)
    write_rows(work / "preferences.jsonl", said.preferences)
    unused = [Drop(inference_id=row, reason=reason) for row, reason in said.unused]
    write_rows(work / "preference-drops.jsonl", unused)
    result = _result(rows, drops + repeated, captured=len(inferences), work=work)
    progress.finish(f"{result.candidates:,} candidates of {result.captured:,} captured")
    return result


def read(lake: Lake, config: FlywheelConfig, table: str, model: type[R], snapshot: Snapshot) -> list[R]:
    """Rows of the flow at the snapshot's version; none where the snapshot knows no such table."""
    version = snapshot.get(table)
    return [] if version is None else lake.records(table, model, flow=config.flow, at=version)


def _result(rows: list[Candidate], drops: list[Drop], *, captured: int, work: Path) -> BuildResult:
    write_rows(work / "candidates.jsonl", rows)
    drops = sorted(drops, key=lambda drop: drop.inference_id)
    write_rows(work / "build-drops.jsonl", drops)
    reasons = Counter(drop.reason for drop in drops)
    free = [row for row in rows if row.held_out is None]
    return BuildResult(
        id=content_id("candidates", [row.model_dump(mode="json") for row in rows]),
        folder=str(work),
        captured=captured,
        consented=captured - reasons["no_training_consent"],
        candidates=len(free),
        held_out=len(rows) - len(free),
        corrections=sum(row.origin == "correction" for row in free),
        liked=sum(row.origin == "liked" for row in free),
        dropped=dict(sorted(reasons.items())),
    )
