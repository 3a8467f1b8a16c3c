"""A small sweep for tests: what one finds, and candidates in a real lake with one signal that tells good from bad."""

from datetime import UTC, datetime
from pathlib import Path

from flywheel.config import FilterConfig, FlywheelConfig, SweepConfig
from flywheel.lake.tables import Lake
from flywheel.quality.artifacts import write_rows
from flywheel.quality.build import BuildResult
from flywheel.quality.rows import TUNE, Candidate
from flywheel.quality.score import ScoreResult
from flywheel.records import Label, Message, Signal
from flywheel.workflow.sweeps.outcomes import Outcome
from flywheel.workflow.sweeps.result import Point, SweepResult

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SWEEP = SweepConfig(trials=8, proposals_per_trial=8, generation=2, max_concurrent=2)
COUNT = 100


def world(home: Path):
    """100 rows held out for tuning; one in five is wrong, and only a low agreement shows it. Made once a home."""
    lake = Lake(str(home / "lake"))
    rows = [
        Candidate(inference_id=f"{i:03d}", flow="f", subject="s", rater="s", ts=NOW, answer="no", origin="correction",
                  target="bad" if i % 5 == 0 else "good", held_out=TUNE, messages=[Message(role="user", content="x")])
        for i in range(COUNT)
    ]  # fmt: skip
    write_rows(home / "work" / "candidates.jsonl", rows)
    signals = [Signal(inference_id=row.inference_id, signal="agreement", version="v",
                      value=0.3 if row.target == "bad" else 0.6) for row in rows]  # fmt: skip
    if lake.version("signals") is None:
        lake.append("signals", signals, app="test", version=1, flow="f")
    built = BuildResult(id="c", folder=str(home / "work"), captured=COUNT, consented=COUNT, candidates=0,
                        held_out=COUNT, corrections=0, liked=0, dropped={})  # fmt: skip
    labels = [Label(label_id=f"l{row.inference_id}", inference_id=row.inference_id, flow="f", subject="s",
                    annotator="r", ts=NOW, kind="correct", correction="Good", split="tune")
              for row in rows]  # fmt: skip
    scored = ScoreResult(version="v", table_version=lake.version("signals") or 0, rows=COUNT, reused=False)
    return lake, FlywheelConfig(flow="f", sweep=SWEEP), built, scored, labels


def outcome(kept: int, right: int, volume: float, **params) -> Outcome:
    return Outcome(params=params, kept=kept, right_kept=right, volume=volume)


def result(**fields) -> SweepResult:
    return SweepResult(**{
        "sweep": "sweep-1", "best": FilterConfig(version="sweep-x", min_agreement=0.5), "value": 0.6,
        "start_value": 0.4, "trials": 2, "proposals": 20, "labels": 100, "kept": 50, "right_kept": 49, "volume": 0.5,
        "start_kept": 90, "start_right_kept": 60, "start_volume": 0.9,
        "front": [Point.of(outcome(50, 49, 0.5, min_agreement=0.5)), Point.of(outcome(90, 60, 0.9))], **fields,
    })  # fmt: skip
