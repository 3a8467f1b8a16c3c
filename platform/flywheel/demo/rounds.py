"""One round of the demo: users ask and react, a reviewer labels, and a turn runs while the traffic goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.demo.reviewer import ANNOTATOR, Reviewer, TruthBook
from flywheel.demo.traffic import Background, TrafficReport, send
from flywheel.demo.users import Population
from flywheel.errors import CaptureError
from flywheel.lake.tables import Lake
from flywheel.review.labels import add_labels, make_label
from flywheel.review.queue import QueueItem
from flywheel.rollout import routing
from flywheel.telemetry import Progress
from flywheel.workflow.exchange.labelling import queue
from flywheel.workflow.turns.turn import run_turn

INGEST_TIMEOUT_S = 60


@dataclass(frozen=True)
class Round:
    """What happened in one round."""

    turn: dict[str, Any]
    """As ``run_turn`` gives it."""
    traffic: TrafficReport
    labels: dict[str, int]
    during_shadow: TrafficReport
    shadow_error: Exception | None
    seconds_to_fix: float | None
    """From the round's first correction to the promoted model; None: nothing was promoted, or corrected."""

    def summary(self) -> dict[str, Any]:
        """The round as one row of the demo's progress."""
        suite = self.turn["metrics"]["suites"].get("random")
        asked = {} if suite is None else {name: suite[name] for name in ("live", "candidate", "difference", "interval")}
        fixed = (suite["fixed"] - suite["newly_broken"]) / suite["n"] if suite and suite["n"] else 0.0
        promoted = self.turn["decision"] == "promote"
        return {
            "turn": self.turn["id"],
            "decision": self.turn["decision"],
            "live": self.turn["live"],
            "requests": self.traffic.sent,
            "right": self.traffic.accuracy,
            **asked,
            "net_fixes_per_1000": round(1000 * fixed, 1) if promoted else 0.0,
            "seconds_to_fix": self.seconds_to_fix,
        }


@dataclass
class Product:
    """A running flow with its users, over any number of rounds."""

    config: FlywheelConfig
    lake: Lake
    url: str
    population: Population
    book: TruthBook
    reviewer: Reviewer
    progress: Progress
    total: TrafficReport = field(default_factory=TrafficReport)
    before: tuple[int, int] = field(init=False)
    """Rows in the lake before anybody asked: imports."""

    def __post_init__(self) -> None:
        self.before = self._stored()

    def play(self, requests: int, of: str = "") -> Round:
        """Traffic, labels and a turn. ``of`` says which round it is, for people."""
        traffic = self._traffic(requests, of)
        self._wait_for_capture()
        labels = self._label()
        with Background(self.url, self.population, self.book, wanted=self._in_shadow) as shadow:
            turn = run_turn(self.config, progress=self.progress)
        self.total.add(shadow.report)
        promoted = turn["decision"] == "promote" and traffic.first_correction is not None
        seconds = time.monotonic() - (traffic.first_correction or 0.0) if promoted else None
        return Round(turn, traffic, labels, shadow.report, shadow.error, None if seconds is None else round(seconds, 1))

    def ask_again(self, requests: int) -> TrafficReport:
        """Fresh requests to whoever is live now."""
        self.progress.start("live", "users ask again")
        report = send(self.url, self.population, self.population.requests(requests), self.book)
        self.progress.finish(f"{report.sent:,} fresh requests, {report.accuracy:.1%} answered right")
        self.total.add(report)
        return report

    def _traffic(self, count: int, of: str) -> TrafficReport:
        self.progress.start("traffic", f"users ask{of}")
        report = send(
            self.url,
            self.population,
            self.population.requests(count),
            self.book,
            on_progress=lambda so_far: self.progress.update(so_far.sent, count, f"{so_far.reactions:,} reactions"),
        )
        self.progress.finish(
            f"{report.sent:,} requests, {report.reactions:,} reactions; {report.accuracy:.1%} answered right{of}"
        )
        self.total.add(report)
        return report

    def _stored(self) -> tuple[int, int]:
        rows = self.lake.read("inferences", flow=self.config.flow, columns=["inference_id"]).num_rows
        return rows, self.lake.read("feedback", flow=self.config.flow, columns=["feedback_id"]).num_rows

    def _wait_for_capture(self) -> None:
        """Everything acknowledged must be in the lake soon."""
        self.progress.start("capture", "waiting for the lake")
        begun, sent, said = time.monotonic(), self.total.sent, self.total.reactions
        while True:
            rows, events = (now - then for now, then in zip(self._stored(), self.before, strict=True))
            self.progress.update(rows + events, sent + said, "rows")
            seconds = time.monotonic() - begun
            if rows >= sent and events >= said:
                break
            if seconds > INGEST_TIMEOUT_S:
                log = self.config.home_path() / "run" / "supervisor.log"
                raise CaptureError(
                    f"After {seconds:.0f} s only {rows:,} of {sent:,} answers and {events:,} of {said:,} "
                    f"reactions are in the lake; look into {log}."
                )
            time.sleep(0.5)
        self.progress.finish(
            f"{rows:,} answers and {events:,} reactions in the lake, the last {seconds:.1f} s after its request"
        )

    def _label(self) -> dict[str, int]:
        """The curated starter set first, then a random sample for each split."""
        self.progress.start("label", "a simulated reviewer")
        counts = {"starter": self._review(queue(self.lake, self.config, source="starter"))}
        for split in ("tune", "audit", "gate"):
            items = [item for item in queue(self.lake, self.config) if item.split == split]
            counts[split] = self._review(items)
        self.progress.finish(", ".join(f"{name} {count:,}" for name, count in counts.items()))
        return counts

    def _review(self, items: list[QueueItem]) -> int:
        labels = []
        for item in items:
            row = item.inference
            judged = self.reviewer.judge(row.inference_id, row.choices[row.choice_served])
            labels.append(
                make_label(
                    row,
                    annotator=ANNOTATOR,
                    kind=judged.kind,
                    correction=judged.correction,
                    seconds=judged.seconds,
                    split=item.split,
                    origin=item.origin,
                )
            )
        return add_labels(self.lake, labels)

    def _in_shadow(self) -> bool:
        truth = routing.current(self.lake.store, self.config.flow)
        return truth is not None and bool(truth.shadows)
