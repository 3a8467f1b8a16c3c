"""Measured once, committed block by block, resumed where the commits end."""

import json
from dataclasses import replace

import pytest

from flywheel.config import FlywheelConfig
from flywheel.errors import EngineError, UsageError
from flywheel.judging.judge import Score
from flywheel.lake.tables import Lake
from flywheel.quality.rows import Evidence
from flywheel.quality.signals import SIGNALS
from flywheel.quality.signals.heavy import Instruments, Marker, heavy_values, of_row
from flywheel.quality.signals.measuring import measure, measurement
from flywheel.quality.signals.plan import content, known, make_plan
from flywheel.telemetry import Silent

FLOW = "f"


class Killed(BaseException):
    pass


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def rows(candidate):
    return [candidate(f"row-{n:02d}", f"question {n} " + "word " * (n % 7), f"answer {n}") for n in range(23)]


def config(**pool):
    return FlywheelConfig(flow=FLOW, quality={"signals": {"pool": {"chunk_rows": 3, "block_chunks": 2, **pool}}})


class Asked:
    """Measures a row as the length of its target plus a number; notes what it was asked, and dies when told."""

    def __init__(self, dies_after=None, backwards=False):
        self.chunks, self.dies_after, self.backwards = [], dies_after, backwards

    def __call__(self, work):
        places = range(len(work))
        for place in reversed(places) if self.backwards else places:
            if self.dies_after is not None and len(self.chunks) >= self.dies_after:
                raise Killed
            ids = [one["inference_id"] for one in work[place]]
            self.chunks.append(ids)
            # The value tells with whom a row was batched, as padding does in the last bits.
            yield place, {one: len(ids) + int(one[-2:]) / 100 for one in ids}


def table(lake):
    read = lake.read("signals", flow=FLOW, columns=["inference_id", "signal", "version", "value"])
    return sorted(map(tuple, (row.values() for row in read.to_pylist())))


def run(lake, rows, ask, name="perplexity", identity="net1", batch="build-1", settings=None):
    return measure(lake, settings or config(), measurement(name, identity, rows, batch), ask, progress=Silent())


def test_every_row_once_and_nothing_twice(lake, rows):
    first = Asked()
    values = run(lake, rows, first)
    assert sorted(one for chunk in first.chunks for one in chunk) == [row.inference_id for row in rows]
    assert len(table(lake)) == len(rows) == len(values)
    again = Asked()
    assert run(lake, rows, again) == values
    assert not again.chunks
    assert not lake.store.list("scorings")


def test_rows_that_may_not_be_looked_at_any_more_are_left_out_of_a_resumed_plan(lake, rows):
    """A consent was withdrawn between the kill and the rerun."""
    with pytest.raises(Killed):
        run(lake, rows, Asked(dies_after=3))
    kept = [row for row in rows if int(row.inference_id[-2:]) % 5]
    again = Asked()
    values = run(lake, kept, again)
    assert set(values) >= {row.inference_id for row in kept}
    assert not {one for chunk in again.chunks for one in chunk} - {row.inference_id for row in kept}


@pytest.mark.parametrize("dies_after", range(8))
def test_killed_anywhere_and_resumed_gives_the_very_same_table(lake, rows, tmp_path, dies_after):
    other = Lake(str(tmp_path / "unkilled"))
    run(other, rows, Asked(backwards=True))
    with pytest.raises(Killed):
        run(lake, rows, Asked(dies_after=dies_after))
    committed = len(table(lake))
    assert committed == min(len(rows), dies_after // 2 * 6)
    resumed = Asked()
    values = run(lake, rows, resumed)
    assert table(lake) == table(other)
    assert len(values) == len(rows)
    assert sum(map(len, resumed.chunks)) == len(rows) - committed


def test_a_kill_after_a_commit_that_was_not_noticed(lake, rows, monkeypatch):
    """The commit is there, the process died before it knew: the block is not stored a second time."""
    append, calls = lake.append, []

    def dying(*args, **named):
        append(*args, **named)
        calls.append(1)
        if len(calls) == 2:
            raise Killed

    monkeypatch.setattr(lake, "append", dying)
    with pytest.raises(Killed):
        run(lake, rows, Asked())
    monkeypatch.undo()
    run(lake, rows, Asked())
    ids = [row[0] for row in table(lake)]
    assert sorted(ids) == sorted(set(ids)) == [row.inference_id for row in rows]


def test_a_later_turn_pays_for_what_is_new_or_has_changed(lake, rows):
    run(lake, rows[:15], Asked())
    seen = rows[3].model_copy(update={"evidence": Evidence(next_message="and again?")})
    later = Asked()
    values = run(lake, [*rows[:3], seen, *rows[4:]], later, batch="build-2")
    assert sorted(one for chunk in later.chunks for one in chunk) == ["row-03", *(r.inference_id for r in rows[15:])]
    assert len(values) == len(rows)


def test_another_version_or_network_measures_anew_and_keeps_the_old(lake, rows, monkeypatch):
    run(lake, rows, Asked())
    other = Asked()
    run(lake, rows, other, identity="net2")
    assert sum(map(len, other.chunks)) == len(rows)
    monkeypatch.setitem(SIGNALS, "perplexity", replace(SIGNALS["perplexity"], version="2"))
    newer = Asked()
    run(lake, rows, newer)
    assert sum(map(len, newer.chunks)) == len(rows)
    assert len(table(lake)) == 3 * len(rows)


def test_what_could_not_be_asked_is_asked_again_and_none_is_a_result(lake, rows):
    def silent(work):
        for place, chunk in enumerate(work):
            yield place, {one["inference_id"]: None for one in chunk if one["inference_id"] != "row-05"}

    assert run(lake, rows, silent) == {}
    again = Asked()
    assert run(lake, rows, again) == {"row-05": 1.05}
    assert again.chunks == [["row-05"]]
    assert len(known(lake, FLOW, measurement("perplexity", "net1", rows, "any"))) == len(rows)


def test_a_plan_is_a_function_of_the_rows(rows):
    pool = config().quality.signals.pool
    assert make_plan(rows, pool) == make_plan(rows, pool)
    assert [len(block) for block in make_plan(rows, pool).blocks] == [2, 2, 2, 2]
    assert content(rows[0]) != content(rows[1])
    assert content(rows[0]) == content(rows[0].model_copy(update={"rater": "other"}))


class Judge:
    version, needs, reported = "judge-1", frozenset({"evaluation"}), ()

    def __init__(self, marks):
        self.marks, self.asked = marks, []

    def score(self, answers, on_progress=None):
        self.asked += [answer.text for answer in answers]
        return [self.marks(answer.text) for answer in answers]


def marked(lake, rows, judge, allowed, **settings):
    import contextlib

    own = FlywheelConfig(flow=FLOW, quality={"signals": {"judge": {"enabled": True, **settings}}})
    marker = Marker("judge-1", lambda: contextlib.nullcontext(judge), frozenset(allowed))
    return heavy_values(lake, own, rows, wanted=["judge"], folds=None, instruments=Instruments({}, marker),
                        batch="b", progress=Silent())["judge"]  # fmt: skip


def test_the_judge_marks_only_rows_whose_people_agree(lake, rows):
    judge = Judge(lambda text: Score(0.25))
    assert set(marked(lake, rows, judge, ["row-01", "row-02"])) == {"row-01", "row-02"}
    assert sorted(judge.asked) == ["answer 1", "answer 2"]
    assert set(marked(lake, rows, judge, [row.inference_id for row in rows], max_rows=5)) != set()
    assert len(judge.asked) <= 2 + 5


def test_a_judge_that_is_down_stops_the_scoring_and_says_so(lake, rows):
    with pytest.raises(EngineError, match="look at its log"):
        marked(lake, rows, Judge(lambda text: Score(None, "refused", failed=True)), ["row-01"])
    with pytest.raises(UsageError, match="configure `judging`"):
        heavy_values(lake, config(), rows, wanted=["judge"], folds=None, instruments=Instruments({}), batch="b",
                     progress=Silent())  # fmt: skip


def test_values_of_a_row():
    assert of_row({"a": {"x": 1.0}, "b": {"y": 2.0}}, "x") == {"a": 1.0}
    assert json.dumps(of_row({}, "x")) == "{}"
