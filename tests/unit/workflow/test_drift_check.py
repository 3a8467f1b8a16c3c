"""The drift test over a lake: fresh labels become cases, each window is tested once, and the cadence hears of it."""

import contextlib
import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from flywheel.errors import EngineError, UsageError
from flywheel.inference.generate import Completion
from flywheel.operate.render import status_tables
from flywheel.operate.status import status
from flywheel.records import EvalCase
from flywheel.review.labels import add_labels, make_label
from flywheel.workflow.cadence import autorun
from flywheel.workflow.cadence.cadence import due
from flywheel.workflow.cadence.drift_check import check_drift
from flywheel.workflow.cadence.facts import gather
from flywheel.workflow.evaluations.answering import Answering

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LIVE_FOR = 10


class Live(Answering):
    """The live model answers as it did, but for questions with one of the ``forgotten`` words."""

    def __init__(self, lake, config, forgotten=(), error=None):
        super().__init__(lake, config)
        self.asked, self.forgotten, self.error = [], forgotten, error

    @contextlib.contextmanager
    def model(self, model):
        assert model.version == "v1"

        def generate(version, conversations, **_):
            texts = [messages[-1].content for messages in conversations]
            self.asked += texts
            return [self._answer(text) for text in texts]

        yield generate

    def _answer(self, text):
        if self.error and text == self.error:
            return Completion("", "error", None, None, None, error="boom")
        wrong = any(word in text for word in self.forgotten)
        return Completion("no" if wrong else "yes", "stop", 3, 1, 5.0)


class Drifting:
    """A flow whose model is live for ten days, labelled before and since."""

    def __init__(self, flow, **settings):
        self.flow = flow(**{"evaluation.drift_window": 20, "evaluation.resamples": 200, **settings})
        self.flow.live(days_ago=LIVE_FOR)
        self.live = []

    @property
    def lake(self):
        return self.flow.lake

    @property
    def config(self):
        return self.flow.config

    def label(self, text, count, *, days_ago, split="gate", origin="random", **fields):
        rows = self.flow.answers(count, days_ago=days_ago, text=text, **fields)
        labels = [make_label(row, annotator="r", kind="accept", split=split, origin=origin, ts=row.ts) for row in rows]
        assert add_labels(self.lake, labels) == count
        return rows

    def check(self, **settings):
        self.live.append(Live(self.lake, self.config, **settings))
        return check_drift(self.config, answering=lambda lake, config: self.live[-1])

    def due(self):
        return due(gather(self.lake, self.config, running=None, now=NOW), self.config.cadence, NOW)


@pytest.fixture
def drifting(flow):
    made = Drifting(flow)
    made.label("at promotion", 60, days_ago=LIVE_FOR + 5)
    return made


def reasons(verdict):
    return [why.name for why in verdict.reasons]


def test_no_engine_before_there_is_a_whole_window(drifting):
    drifting.label("fresh", 19, days_ago=3)
    report = drifting.check()
    assert (report.made, drifting.live[0].asked) == ([], [])
    assert "19 people with labels since then, and a test takes 20" in report.text
    drifting.label("fresh", 30, days_ago=2, split="tune")
    drifting.label("fresh", 30, days_ago=2, origin="curated")
    drifting.label("fresh", 30, days_ago=2, model_version="v2", traffic_kind="shadow")
    assert drifting.check().made == [], "none of these is a sample of what the live model answered"
    assert status(drifting.lake, drifting.config)["drift"] is None


def test_a_model_that_got_worse_is_an_alarm_kept_shown_and_a_reason_for_a_turn(drifting):
    drifting.label("fresh", 20, days_ago=5)
    calm = drifting.check(forgotten=["new words"])
    assert [test.alarm for test in calm.made] == [False]
    assert reasons(drifting.due()) == []
    drifting.label("fresh with new words", 45, days_ago=3)
    report = drifting.check(forgotten=["new words"])
    assert [(test.window, test.wrong, test.people, test.baseline_people) for test in report.made] == [
        (2, 20, 20, 60), (3, 20, 20, 60)]  # fmt: skip
    assert report.text.startswith("ALARM: v1 answers 0.0% of 20 fresh cases right, 100.0% of 60 at its promotion")
    assert drifting.live[1].asked == ["fresh with new words"] * 40, "earlier cases were answered before"
    assert reasons(drifting.due()) == ["live drift"]
    state = status(drifting.lake, drifting.config)
    assert state["drift"]["alarm"]
    screen = Console(file=io.StringIO(), width=200)
    status_tables(state, screen)
    assert "got worse: v1 answers 0.0%" in screen.file.getvalue()
    assert {case.suite for case in drifting.lake.records("eval_cases", EvalCase)} == {"random"}


def test_each_window_is_tested_once_however_often_somebody_asks(drifting):
    drifting.label("fresh", 25, days_ago=3)
    first = drifting.check()
    for _ in range(3):
        again = drifting.check(forgotten=["fresh"])
        assert (again.made, drifting.live[-1].asked) == ([], [])
        assert again.text == f"no alarm: {first.made[0].text}"


def test_one_person_fills_no_window(drifting):
    drifting.label("fresh", 100, days_ago=3, people=3)
    assert drifting.check().made == []


def test_a_first_live_model_is_compared_with_its_own_first_window(flow):
    made = Drifting(flow)
    made.label("first", 20, days_ago=5)
    assert made.check().made == []
    made.label("second", 20, days_ago=3)
    [test] = made.check(forgotten=["second"]).made
    assert (test.window, test.wrong, test.baseline_wrong, test.baseline_people, test.alarm) == (1, 20, 0, 20, True)


def test_another_live_model_begins_anew(drifting):
    drifting.label("fresh", 20, days_ago=5)
    assert drifting.check(forgotten=["fresh"]).alarms
    drifting.flow.live("v2", days_ago=1)
    assert reasons(drifting.due()) == []
    assert drifting.check().text.startswith("no test yet of v2")


def test_an_alarm_that_a_turn_saw_is_no_reason_for_another(drifting):
    drifting.label("fresh", 20, days_ago=5)
    drifting.check(forgotten=["fresh"])
    drifting.flow.turn("reject", saw_days_ago=-9999, ended_days_ago=1)
    assert "live drift" not in reasons(drifting.due())
    assert any("which the last turn saw" in why.text for why in drifting.due().waiting)


def test_answers_that_are_missing_are_no_test(drifting):
    drifting.label("fresh", 19, days_ago=5)
    drifting.label("lost", 1, days_ago=4)
    with pytest.raises(EngineError, match="1 of 80 cases were not answered"):
        drifting.check(error="lost")
    assert len(drifting.check().made) == 1


def test_the_schedule_tests_first_and_a_test_that_fails_stops_no_turn(drifting, monkeypatch):
    drifting.label("fresh", 20, days_ago=5)
    monkeypatch.setattr(autorun, "check_drift", lambda config, **_: drifting.check(error="fresh") and None)
    outcome = autorun.run_if_due(drifting.config)
    assert outcome.turn is None
    assert "20 of 80 cases were not answered" in {why.name: why.text for why in outcome.due.waiting}["drift test"]
    drifting.flow.react(drifting.flow.answers(60), "thumbs", 1)
    monkeypatch.setattr(autorun, "check_drift", lambda config, **_: drifting.check(forgotten=["fresh"]))
    monkeypatch.setattr(autorun, "run_turn_under", lambda *_, **__: {"id": "turn-0001"})
    outcome = autorun.run_if_due(drifting.config)
    assert (outcome.turn, "live drift" in reasons(outcome.due)) == ({"id": "turn-0001"}, True)


def test_no_live_model_is_said(flow):
    with pytest.raises(UsageError, match="no live model"):
        check_drift(flow().config)
