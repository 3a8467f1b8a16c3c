"""The Goodhart monitor over a lake: periods of turns, looks stored once, alarms seen, turns held, alarms settled."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from gate_reports import promoted
from rich.console import Console

from flywheel.errors import LakeError, UsageError
from flywheel.operate.goodhart_table import show
from flywheel.operate.render import status_tables
from flywheel.operate.status import status
from flywheel.quality.artifacts import write_rows
from flywheel.quality.build import BuildResult
from flywheel.quality.rows import Candidate
from flywheel.quality.score import ScoreResult
from flywheel.records import Signal
from flywheel.review.labels import add_labels, make_label
from flywheel.workflow.cadence.cadence import due
from flywheel.workflow.cadence.facts import gather
from flywheel.workflow.turns import turn as turns
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.goodhart.check import check_goodhart, look_before_training
from flywheel.workflow.turns.goodhart.page import render
from flywheel.workflow.turns.goodhart.stored import looks, settle, standing
from flywheel.workflow.turns.report.page import render as render_gate
from flywheel.workflow.turns.steps import TurnHandle, open_turn
from flywheel.workflow.turns.turn import step_key

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Watched:
    """Turns a week apart; in each period people rate answers, and a reviewer audits some."""

    def __init__(self, flow, folder, **settings):
        self.flow, self.folder, self.rng = flow(**settings), folder, random.Random(0)
        self.flow.live(days_ago=60)
        self.candidates = []

    lake = property(lambda self: self.flow.lake)
    config = property(lambda self: self.flow.config)

    def period(self, *, week, right, liked, people=120, labelled=60):
        """Traffic before the turn of this week."""
        rows = self.flow.answers(people, days_ago=60 - 7 * week + 1)
        up = [row for row in rows if self.rng.random() < liked]
        names = {row.inference_id for row in up}
        self.flow.react(up, value=1)
        self.flow.react([row for row in rows if row.inference_id not in names], value=-1)
        self.candidates += [
            Candidate(
                inference_id=row.inference_id, flow="triage", subject=row.subject, rater=row.subject, ts=row.ts,
                messages=row.messages, answer="yes", target="yes", origin="liked",
            )
            for row in up
        ]  # fmt: skip
        self.label(rows[:labelled], right)
        return rows

    def label(self, rows, right, split="audit", origin="random"):
        kinds = ["accept" if self.rng.random() < right else "reject" for _ in rows]
        add_labels(self.lake, [
            make_label(row, annotator="r", kind=kind, split=split, origin=origin, ts=row.ts)
            for row, kind in zip(rows, kinds, strict=True)
        ])  # fmt: skip

    def turn(self, *, week, signals=("agreement", "correction_distance"), used=None, folder=True):
        """A turn that scored what is there; every signal is a coin."""
        turn = open_turn(self.lake.store, self.config)
        turn.write(step_key("snapshot"), {"at": (NOW - (60 - 7 * week) * DAY).isoformat(), "seconds": 0.1})
        work = self.folder / turn.turn_id
        if folder:
            write_rows(work / "candidates.jsonl", self.candidates)
        built = BuildResult(
            id="c", folder=str(work), captured=0, consented=0, candidates=0, held_out=0, corrections=0, liked=0,
            dropped={},
        )  # fmt: skip
        turn.write(step_key("candidates"), {**built.model_dump(), "seconds": 0.1})
        version = f"signals-{turn.turn_id}"
        if self.candidates:
            self.flow.append("signals", [
                Signal(inference_id=row.inference_id, signal=name, version=version, value=self.rng.random())
                for row in self.candidates
                for name in signals
            ])  # fmt: skip
        scored = ScoreResult(version=version, table_version=self.lake.version("signals") or 0, rows=1, reused=False)
        turn.write(step_key("score"), {**scored.model_dump(), "seconds": 0.1})
        chosen = self.config.quality.filter.model_copy(update=used or {})
        turn.write(step_key("sweep"), {"used": False, "filter": chosen.model_dump(mode="json")})
        ended = {"decision": "reject", "reasons": [], "at": (NOW - (60 - 7 * week) * DAY).isoformat()}
        turn.write("finished", ended)
        return turn.turn_id

    def check(self):
        return check_goodhart(self.lake, self.config)

    def due(self):
        return due(gather(self.lake, self.config, running=None, now=NOW), self.config.cadence, NOW)


@pytest.fixture
def watched(flow, tmp_path):
    return Watched(flow, tmp_path / "work")


@pytest.fixture
def gamed(watched):
    watched.period(week=1, right=0.85, liked=0.5)
    first = watched.turn(week=1)
    watched.period(week=2, right=0.5, liked=0.9)
    return watched, first, watched.turn(week=2)


def test_a_turn_after_which_thumbs_rise_and_quality_falls_raises_an_alarm(gamed):
    watched, first, second = gamed
    found = watched.check()
    assert [(look.turn, look.look) for look in found.periods] == [(first, 0), (second, 1)]
    assert [one.signal for one in found.periods[1].alarms] == ["explicit"]
    assert found.standing == [second]
    assert found.periods[1].audit.people == found.periods[1].audit_before.people == 60
    assert {row.signal: row.role for row in found.periods[1].signals} == {
        "explicit": "proxy", "engagement": "proxy", "agreement": "proxy", "correction_distance": "held_out",
    }  # fmt: skip
    assert look_before_training(watched.lake, watched.config, second).alarm


def test_a_look_is_made_once(gamed):
    watched, _, second = gamed
    before = watched.check().periods[1]
    watched.label(watched.flow.answers(50, days_ago=46.5), 1.0)
    after = watched.check().periods[1]
    assert after == before
    assert [look.turn for look in looks(watched.lake.store, "triage")][1] == second


def test_labels_that_come_late_make_the_look_later(watched):
    watched.period(week=1, right=0.85, liked=0.5)
    watched.turn(week=1)
    rows = watched.period(week=2, right=0.5, liked=0.9, labelled=10)
    second = watched.turn(week=2)
    assert watched.check().text.startswith(f"not enough labels: 10 of 30 people of {second}")
    assert len(looks(watched.lake.store, "triage")) == 1
    watched.label(rows[10:60], 0.5)
    assert watched.check().standing == [second]


@pytest.mark.parametrize("fields", [{"split": "tune"}, {"split": "gate"}, {"origin": "curated"}])
def test_only_audit_labels_of_the_random_sample_count(watched, fields):
    rows = watched.period(week=1, right=0.85, liked=0.5, labelled=0)
    watched.label(rows, 0.85, **fields)
    watched.turn(week=1)
    assert watched.check().periods[0].audit.people == 0


def test_who_withdrew_consent_to_evaluation_is_not_looked_at(watched):
    rows = watched.period(week=1, right=0.85, liked=0.5)
    watched.flow.withdraw(rows[:20], purpose="evaluation")
    watched.turn(week=1)
    found = watched.check().periods[0]
    assert found.audit.people == 40
    assert next(row for row in found.signals if row.signal == "explicit").rows == 100


def test_a_filter_that_reads_the_held_out_signal_spoils_it(gamed):
    watched, *_ = gamed
    watched.period(week=3, right=0.5, liked=0.9)
    third = watched.turn(week=3, used={"version": "sweep-9", "max_correction_distance": 0.4})
    found = watched.check().periods[2]
    assert found.turn == third
    assert found.held_out_used_by == ["sweep-9 (this turn)"]
    assert "correction_distance is no longer held out" in found.text


def test_without_the_files_of_the_turn_answers_are_looked_at(watched):
    watched.period(week=1, right=0.85, liked=0.5)
    watched.turn(week=1, folder=False)
    found = watched.check()
    assert [row.signal for row in found.periods[0].signals] == ["engagement", "explicit"]
    assert "cannot be read here" in found.remarks[0]


def test_an_alarm_is_seen_and_holds_unattended_turns_until_somebody_settles_it(gamed):
    watched, _, second = gamed
    watched.check()
    screen = Console(record=True, width=200)
    status_tables(status(watched.lake, watched.config), screen)
    assert "a proxy rose and quality did not: explicit went from" in screen.export_text()
    blocked = watched.due()
    assert not blocked.due
    assert "flywheel goodhart --settle" in next(why.text for why in blocked.waiting if why.name == "goodhart alarm")
    with pytest.raises(UsageError, match="Say what was found"):
        settle(watched.lake.store, "triage", reason=" ", actor="ann")
    assert [one.turn for one in settle(watched.lake.store, "triage", reason="thumbs left", actor="ann")] == [second]
    assert standing(watched.lake.store, "triage") == []
    assert "goodhart alarm" not in [why.name for why in watched.due().waiting]
    assert watched.check().periods[1].alarm  # what happened stays in the record
    with pytest.raises(UsageError, match="waits for anybody"):
        settle(watched.lake.store, "triage", reason="again", actor="ann")


def test_a_team_may_prefer_to_be_told_only(gamed, flow):
    watched, *_ = gamed
    watched.check()
    quiet = watched.config.model_copy(update={
        "quality": watched.config.quality.model_copy(update={
            "goodhart": watched.config.quality.goodhart.model_copy(update={"hold": False})
        })
    })  # fmt: skip
    assert gather(watched.lake, quiet, running=None, now=NOW).goodhart == ()
    assert len(gather(watched.lake, watched.config, running=None, now=NOW).goodhart) == 1


def test_a_flow_without_turns_says_so(watched):
    found = watched.check()
    assert (found.periods, found.text) == ([], "no turn of this flow has scored anything yet (flywheel turn)")
    assert "Nothing to see yet" in render(found)
    assert status(watched.lake, watched.config)["goodhart"] is None


def test_a_turn_of_nothing_is_looked_at_too(watched):
    only = watched.turn(week=1)
    found = watched.check()
    assert found.text.startswith(f"not enough labels: 0 of 30 people of {only}")
    assert "names 'correction_distance', which no row has" in found.remarks[0]
    show(found, Console(record=True, width=160))
    assert only in render(found) or "No alarm" in render(found)


def test_table_and_page_show_it(gamed):
    watched, _, second = gamed
    found = watched.check()
    screen = Console(record=True, width=160)
    show(found, screen)
    text = screen.export_text()
    assert f"alarm of {second} waits for a person" in text
    assert "held out" in text
    page = render(found)
    assert "A proxy rose and quality did not" in page
    assert f"{second}: AUC" in page
    assert "<script" not in page


def test_the_gate_report_shows_the_alarm(gamed):
    watched, *_ = gamed
    look = watched.check().periods[1]
    page = render_gate(promoted().model_copy(update={"goodhart": look}))
    assert "Do the signals still mean quality?" in page
    assert "Alarm: explicit went from" in page


class Said:
    def __init__(self):
        self.lines = []

    def start(self, name, text=""):
        assert name == "goodhart"

    def finish(self, text=""):
        self.lines.append(text)


def test_a_turn_looks_before_it_curates_and_goes_on_whatever_comes_of_it(gamed, monkeypatch):
    watched, _, second = gamed
    turn = TurnHandle(watched.lake.store, "triage", second)
    context, said = Context(watched.lake, watched.config, None, turn, watched.folder), Said()
    lease, ran = type("Lease", (), {"check": lambda self: None})(), []
    monkeypatch.setitem(turns.STEPS, "curate", (lambda *_: ran.append("curate") or {}, str))
    monkeypatch.setitem(turns.STEPS, "scan", (lambda *_: ran.append("scan") or {}, str))
    for name in ("curate", "scan"):
        turns._step(name, context, lease, said).run({}, said)
    assert ran == ["curate", "scan"]
    assert len(said.lines) == 1
    assert said.lines[0].startswith("ALARM: explicit went from")

    def broken(*_):
        raise LakeError("the signals are gone")

    monkeypatch.setattr(turns, "look_before_training", broken)
    turns._step("curate", context, lease, said).run({}, said)
    assert said.lines[1] == "could not look: the signals are gone"
    assert ran[-1] == "curate"
