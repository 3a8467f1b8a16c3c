"""Step 1: a snapshot of the lake -> candidate rows on disk, with every row that is out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from flywheel.config import FlywheelConfig
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake
from flywheel.quality.artifacts import read_rows, write_rows
from flywheel.quality.candidates import build_candidates
from flywheel.quality.dedup import exact_duplicates, near_evaluation
from flywheel.quality.reward_data import Gathered, Preference, apart, gather
from flywheel.quality.rows import Candidate, Drop, Exclusions
from flywheel.quality.semantic import encoder_of, meant_by_suites
from flywheel.quality.trust.apply import Suspect, Trusted, trusted
from flywheel.records import TRAFFIC, Consent, Feedback, Inference, Record
from flywheel.telemetry import Progress, Silent

R = TypeVar("R", bound=Record)

ConsentRule = Callable[[Sequence[Inference], Sequence[Consent]], set[str]]
"""Ids of the inferences that may be trained on now; the capture package has the rule, the turn passes it."""

HeardRule = Callable[[Sequence[Feedback], Sequence[Inference], Sequence[Consent]], list[Feedback]]
"""The reactions that may be trained on where their inferences may; the rule is of the capture package as well."""

Snapshot = Mapping[str, int | None]
"""Table -> Delta version, so that a rerun sees the same rows. None or missing: no such table then."""


class BuildResult(Record):
    """What the next steps need. ``folder`` holds candidates, preferences and quarantine, each with what is out."""

    id: str
    folder: str
    captured: int
    consented: int
    candidates: int
    held_out: int
    corrections: int
    liked: int
    taught: int = 0
    dropped: dict[str, int]
    quarantined: dict[str, int] = Field(
        default_factory=dict[str, int], description="feedback rows that nothing was built from, by reason"
    )

    def path(self) -> Path:
        """The file of the candidates, one JSON object a line."""
        return Path(self.folder) / "candidates.jsonl"

    def rows(self) -> list[Candidate]:
        """The candidates, ordered by inference id."""
        return read_rows(self.path(), Candidate)

    def taught_rows(self) -> list[Candidate]:
        """What the live model was taught with; no signal is measured of it, and nothing but training uses it."""
        path = Path(self.folder) / "taught.jsonl"
        return read_rows(path, Candidate) if path.exists() else []

    def drops(self) -> list[Drop]:
        """Every other captured inference with its reason."""
        return read_rows(Path(self.folder) / "build-drops.jsonl", Drop)

    def suspects(self) -> list[Suspect]:
        """The feedback in quarantine, each row with its reason."""
        return read_rows(Path(self.folder) / "quarantine.jsonl", Suspect)

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
    heard: HeardRule,
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
    inferences = [
        row for row in read(lake, config, "inferences", Inference, snapshot) if row.traffic_kind in (*TRAFFIC, "taught")
    ]
    consents = read(lake, config, "consents", Consent, snapshot)
    feedback = heard(read(lake, config, "feedback", Feedback, snapshot), inferences, consents)
    allowed = consented(inferences, consents)
    counted = trusted(inferences, feedback, config.quality.trust, consented=allowed)
    rows, drops = build_candidates(inferences, counted.feedback, consented=allowed, excluded=excluded)
    rows, drops = counted.rated(rows), counted.explain(drops)
    similar = near_evaluation(rows, excluded.texts, excluded.decisive)
    drops += [
        Drop(inference_id=row, reason="near_evaluation", detail=f"{overlap.kind} {overlap.score:.2f}")
        for row, overlap in similar.items()
    ]
    rows = [row for row in rows if row.inference_id not in similar]
    meant = _meant(rows, excluded, config)
    drops += [
        Drop(inference_id=row, reason="near_evaluation", detail=f"semantic {cosine:.2f}")
        for row, cosine in meant.items()
    ]
    rows, repeated = exact_duplicates([row for row in rows if row.inference_id not in meant])
    thumbs = config.quality.reward.thumbs
    said = gather(inferences, counted.feedback, consented=allowed, excluded=excluded, thumbs=thumbs)
    _write_preferences(apart(said, excluded.texts, excluded.decisive), work)
    result = _result(rows, drops + repeated, captured=len(inferences), work=work)
    result = result.model_copy(update={"quarantined": _quarantine(lake, config, result.id, counted, work)})
    aside = f", {len(counted.suspects):,} reactions in quarantine" if counted.suspects else ""
    again = f", {result.taught:,} to rehearse" if result.taught else ""
    progress.finish(f"{result.candidates:,} candidates of {result.captured:,} captured{again}{aside}")
    return result


def _meant(rows: list[Candidate], excluded: Exclusions, config: FlywheelConfig) -> dict[str, float]:
    """Rows that say in other words what a suite says, where an encoder is configured."""
    encode = encoder_of(config.quality.dedup)
    if encode is None:
        return {}
    texts = [*excluded.texts, *excluded.decisive]
    return meant_by_suites(rows, texts, encode, threshold=config.quality.dedup.semantic_cosine)


def _write_preferences(said: Gathered, work: Path) -> None:
    write_rows(work / "preferences.jsonl", said.preferences)
    unused = [Drop(inference_id=row, reason=reason) for row, reason in said.unused]
    write_rows(work / "preference-drops.jsonl", unused)


def read(lake: Lake, config: FlywheelConfig, table: str, model: type[R], snapshot: Snapshot) -> list[R]:
    """Rows of the flow at the snapshot's version; none where the snapshot knows no such table."""
    version = snapshot.get(table)
    return [] if version is None else lake.records(table, model, flow=config.flow, at=version)


def quarantine_key(flow: str, identity: str) -> str:
    """Where the suspect feedback of the candidates ``identity`` is kept."""
    return f"drops/{flow}/quarantine-{identity}.jsonl"


def _quarantine(lake: Lake, config: FlywheelConfig, identity: str, counted: Trusted, work: Path) -> dict[str, int]:
    """Write the suspect feedback beside the candidates and beside the datasets' drops; counts by reason."""
    path = write_rows(work / "quarantine.jsonl", counted.suspects)
    if counted.suspects:
        lake.store.put(quarantine_key(config.flow, identity), path.read_bytes())
    return dict(sorted(Counter(one.reason for one in counted.suspects).items()))


def _result(every: list[Candidate], drops: list[Drop], *, captured: int, work: Path) -> BuildResult:
    rows, taught = ([row for row in every if (row.origin == "taught") == wanted] for wanted in (False, True))
    write_rows(work / "candidates.jsonl", rows)
    write_rows(work / "taught.jsonl", taught)
    drops = sorted(drops, key=lambda drop: drop.inference_id)
    write_rows(work / "build-drops.jsonl", drops)
    reasons = Counter(drop.reason for drop in drops)
    free = [row for row in rows if row.held_out is None]
    return BuildResult(
        id=content_id("candidates", [row.model_dump(mode="json") for row in every]),
        folder=str(work),
        captured=captured,
        consented=captured - reasons["no_training_consent"],
        candidates=len(free),
        held_out=len(rows) - len(free),
        corrections=sum(row.origin == "correction" for row in free),
        liked=sum(row.origin == "liked" for row in free),
        taught=len(taught),
        dropped=dict(sorted(reasons.items())),
    )
