"""The scheduled evaluation of the live model: new cases from fresh labels, one test a whole window, kept in the lake.

``drift/<flow>/<version>/<live since>/<window>.json``, each put-if-absent: no window is tested twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flywheel.capture.consent import consented_ids
from flywheel.config import FlywheelConfig
from flywheel.errors import EngineError, UsageError
from flywheel.evaluation import cases as suites
from flywheel.evaluation.run import evaluate
from flywheel.lake.store import ObjectStore
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import TRAFFIC, Consent, Inference, Label, Record, utcnow
from flywheel.review.labels import read_labels
from flywheel.rollout import routing
from flywheel.rollout.routing import Routing
from flywheel.statistics.proportions import Count
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.cadence.drift import DriftTest, Fresh, one_each, window_test, windows
from flywheel.workflow.evaluations.answering import Answering, find_model
from flywheel.workflow.evaluations.scorers import scoring
from flywheel.workflow.turns.lease import EVALUATING, only_one

SUITE = "random"
"""Cases of labels drawn at random: the one suite that is a sample of traffic."""


class DriftReport(Record):
    """What ``flywheel evaluate --drift`` says: tests made now, all alarms of this live model, what is waited for."""

    version: str
    made: list[DriftTest]
    alarms: list[DriftTest]
    text: str


def check_drift(
    config: FlywheelConfig,
    *,
    progress: Progress | None = None,
    answering: Callable[[Lake, FlywheelConfig], Answering] = Answering,
) -> DriftReport:
    """Test every window of fresh cases that is whole and was not tested yet; asks no engine before there is one.

    Args:
        config: the flow; ``evaluation.drift_window`` and ``drift_alpha``.
        progress: told about the cases.
        answering: what answers.

    Raises:
        UsageError: the flow has no live model.
        EngineError: some cases could not be answered; nothing is tested then.
        LeaseHeldError: an evaluation sweep of this flow is running.
    """
    lake = open_lake(config)
    truth = routing.current(lake.store, config.flow)
    if truth is None:
        raise UsageError(f"The flow '{config.flow}' has no live model; there is nothing that could get worse.")
    labels = [row for row in read_labels(lake, config.flow) if row.split == "gate" and row.origin == "random"]
    check = _Check(lake, config, truth, routing.live_since(lake.store, truth), labels, progress or Silent(), answering)
    made = list[DriftTest]()
    if check.worth_a_look():
        with only_one(config, EVALUATING):
            made = check.test_new()
    return check.report(made)


def drift_tests(store: ObjectStore, truth: Routing) -> list[DriftTest]:
    """All tests of the model that is live now, oldest first."""
    keys = sorted(store.list(_prefix(truth, routing.live_since(store, truth))))
    return [DriftTest.model_validate_json(store.get(key)) for key in keys]


@dataclass(frozen=True)
class _Check:
    """One look at the live model, which has been live since ``since``; ``labels`` are those that judge."""

    lake: Lake
    config: FlywheelConfig
    truth: Routing
    since: datetime
    labels: Sequence[Label]
    progress: Progress
    answering: Callable[[Lake, FlywheelConfig], Answering]

    def worth_a_look(self) -> bool:
        """Whether there can be another whole window at all; spares reading the traffic."""
        fresh = sum(label.ts >= self.since for label in self.labels)
        return fresh >= (self._tested() + 1) * self.config.evaluation.drift_window

    def test_new(self) -> list[DriftTest]:
        """The tests of all windows that are whole and not tested yet, stored."""
        policy = self.config.evaluation
        before, fresh = self._cases()
        found, baseline = windows(fresh, policy.drift_window), one_each(before)
        if len(baseline) < policy.drift_window:  # a first live model: later windows are compared with its first one
            baseline, found = (found[0], found[1:]) if found else ([], [])
        new = list(enumerate(found, start=1))[self._tested() :]
        if not new:
            return []
        passed = self._passed({case.case_id for part in (baseline, *(one for _, one in new)) for case in part})
        then, version = _wrong(baseline, passed), self.truth.live.version
        made = [
            window_test(version, number, _wrong(window, passed), then, alpha=policy.drift_alpha, at=utcnow())
            for number, window in new
        ]
        for test in made:
            key = f"{_prefix(self.truth, self.since)}{test.window:06d}.json"
            self.lake.store.put_if_absent(key, test.model_dump_json(indent=1).encode())
        return made

    def report(self, made: list[DriftTest]) -> DriftReport:
        """In words: the latest alarm, else the last test, else what is waited for."""
        version = self.truth.live.version
        every = drift_tests(self.lake.store, self.truth)
        alarms = [test for test in every if test.alarm]
        last = (alarms or every or [None])[-1]
        if last is None:
            people = len({label.subject for label in self.labels if label.ts >= self.since})
            text = (
                f"no test yet of {version}, live since {self.since:%Y-%m-%d %H:%M} UTC: {people:,} people with labels "
                f"since then, and a test takes {self.config.evaluation.drift_window:,} of its own traffic"
            )
        else:
            text = f"{'ALARM' if last.alarm else 'no alarm'}: {last.text}"
        return DriftReport(version=version, made=made, alarms=alarms, text=text)

    def _cases(self) -> tuple[list[Fresh], list[Fresh]]:
        """Cases that were labelled before the live model became live, and those of its own traffic since."""
        lake, flow = self.lake, self.config.flow
        rows = [row for row in lake.records("inferences", Inference, flow=flow) if row.traffic_kind in TRAFFIC]
        allowed = consented_ids(rows, lake.records("consents", Consent, flow=flow), "evaluation", utcnow())
        by_id = {row.inference_id: row for row in rows if row.inference_id in allowed}
        suites.store_cases(lake, flow, suites.random_suite(self.labels, by_id))
        first: dict[str, datetime] = {}
        for label in self.labels:
            first[label.inference_id] = min(label.ts, first.get(label.inference_id, label.ts))
        before, fresh = list[Fresh](), list[Fresh]()
        for case in suites.load_cases(lake, flow, [SUITE]):
            row = by_id.get(case.inference_id or "")
            if row is None or row.inference_id not in first:
                continue
            one = Fresh(case.case_id, row.subject, first[row.inference_id])
            if one.labelled < self.since:
                before.append(one)
            elif self._answered_live(row):
                fresh.append(one)
        return before, fresh

    def _answered_live(self, row: Inference) -> bool:
        live = row.traffic_kind == "live" and row.model_version == self.truth.live.version
        return live and row.ts >= self.since

    def _passed(self, wanted: set[str]) -> dict[str, bool]:
        model = find_model(self.lake, self.config, "live", None)
        self.progress.start("drift", f"{model.version} on {len(wanted):,} cases")
        checks = [case.check for case in suites.load_cases(self.lake, self.config.flow, [SUITE])]
        with (
            self.answering(self.lake, self.config) as answers,  # first: its cluster must outlive a judge's engine
            scoring(self.lake, self.config, checks) as scorers,
            answers.model(model) as generate,
        ):
            run = evaluate(
                self.lake,
                self.config,
                version=model.version,
                suites=[SUITE],
                only=wanted,
                content=model.content,
                seed=self.config.seed,
                scorers=scorers,
                generate=generate,
                block=answers.block(model),
                on_progress=lambda done, total: self.progress.update(done, total, "cases"),
            )
        if run.unanswered:
            raise EngineError(f"{run.unanswered} of {len(wanted)} cases were not answered; test for drift again")
        self.progress.finish(f"{run.answered:,} cases, {run.reused:,} answered before")
        return {result.case_id: result.passed for result in run.results}

    def _tested(self) -> int:
        return len(self.lake.store.list(_prefix(self.truth, self.since)))


def _wrong(cases: Sequence[Fresh], passed: Mapping[str, bool]) -> Count:
    return Count(sum(not passed[case.case_id] for case in cases), len(cases))


def _prefix(truth: Routing, since: datetime) -> str:
    return f"drift/{truth.flow}/{truth.live.version}/{since:%Y%m%dT%H%M%S}/"
