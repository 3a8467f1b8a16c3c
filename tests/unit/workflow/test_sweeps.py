from datetime import UTC, datetime
from xml.etree import ElementTree

import numpy as np
import pytest
from gate_reports import judged, make
from small_sweep import outcome, result

from flywheel.config import FilterConfig, ProxyConfig, SweepConfig, TrainingConfig, load
from flywheel.errors import UsageError
from flywheel.lake.store import ObjectStore
from flywheel.operate.sweep_lines import sweep_lines
from flywheel.quality.filters import Columns, passing
from flywheel.quality.rows import Candidate
from flywheel.records import Label, Message
from flywheel.workflow.sweeps import outcomes as outcomes_module
from flywheel.workflow.sweeps.finalists import best, finalists
from flywheel.workflow.sweeps.outcomes import evaluate
from flywheel.workflow.sweeps.pareto import front, hypervolume, spread
from flywheel.workflow.sweeps.picture import pareto_svg
from flywheel.workflow.sweeps.proxies import Contestant, judge, proxy_training, rung_steps
from flywheel.workflow.sweeps.proxy_data import chosen, proxy_data, right_answers
from flywheel.workflow.sweeps.records import Records, Rung, Trial
from flywheel.workflow.sweeps.result import changes, save_filter
from flywheel.workflow.sweeps.rows import TuneRows
from flywheel.workflow.sweeps.trials import known_before
from flywheel.workflow.turns.alone import period_name
from flywheel.workflow.turns.report.gather import _swept
from flywheel.workflow.turns.report.page import render

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rung(step: int, loss: float) -> Rung:
    return Rung(step=step, tokens=10 * step, loss=loss, exact=0.5, seconds=1)


def random_rows(count: int) -> TuneRows:
    generator = np.random.default_rng(0)

    def columns(rows: int) -> Columns:
        signals = {key: generator.random(rows) for key in ("agreement", "preference", "rater_trust", "engagement")}
        signals["agreement"][::7] = np.nan
        return Columns([f"{i}" for i in range(rows)], generator.random(rows) > 0.5, signals)

    return TuneRows(columns(count), generator.random(count) > 0.3, ["l"] * count, columns(2 * count))


def test_blocks_count_what_all_rows_at_once_do(monkeypatch):
    monkeypatch.setattr(outcomes_module, "BLOCK", 64)
    rows, start = random_rows(1_000), FilterConfig(min_votes=0)
    proposals = [{}, {"min_agreement": 0.5, "min_votes": 2}, {"min_preference": 0.8, "min_rater_trust": 0.4}]
    found = evaluate(rows.light(), start, proposals)  # no rule reads an id
    assert found[0].kept > found[1].kept > 0
    assert rows.volume is not None
    for params, one in zip(proposals, found, strict=True):
        config = start.model_copy(update=params)
        kept = passing(rows.columns, config)
        assert (one.kept, one.right_kept) == (kept.sum(), (kept & rows.right).sum())
        assert one.volume == passing(rows.volume, config).mean()


def test_the_front_is_what_nothing_beats_in_both():
    points = [outcome(10, 9, 0.2), outcome(40, 30, 0.5), outcome(40, 28, 0.5), outcome(20, 12, 0.4),
              outcome(80, 48, 0.9), outcome(3, 3, 0.05)]  # fmt: skip
    found = front(points)
    assert [(one.volume, one.quality) for one in found] == [(0.2, 0.9), (0.5, 0.75), (0.9, 0.6)]
    assert hypervolume(found) == pytest.approx(0.2 * 0.9 + 0.3 * 0.75 + 0.4 * 0.6)
    assert hypervolume(points) >= hypervolume(found)  # the tiny one, which is on no front, adds a corner
    assert spread(found, 2) == [found[0], found[2]]
    assert spread(found, 7) == found


def test_finalists_keep_different_rows_and_the_best_comes_first():
    rows = random_rows(100)
    start, top = outcome(90, 60, 0.9), outcome(50, 50, 0.5, min_agreement=0.4)
    same, pure = outcome(50, 50, 0.5, min_agreement=0.41), outcome(20, 20, 0.2, min_agreement=0.8)
    empty = outcome(0, 0, 0.0, min_agreement=0.9)
    everyone = [start, same.model_copy(update={"params": {"min_votes": 1}}), top, same, pure, empty]
    assert best([start, top, same], rows, 3.0) is top
    found = finalists(everyone, rows, 3.0, 4)
    assert [one.same_rows() for one in found] == [top.same_rows(), start.same_rows(), pure.same_rows()]
    assert len(finalists(everyone, rows, 3.0, 2)) == 2


def test_a_winner_rests_on_more_than_a_few_lucky_labels():
    rows = random_rows(40)
    start = outcome(34, 24, 0.86)
    lucky = [outcome(count, count, count / 40, min_agreement=0.9 + count / 1000) for count in (1, 2, 4, 5)]
    assert best([start, *lucky, outcome(0, 0, 0.0, min_votes=9)], rows, 3.0) is start
    found = outcome(20, 19, 0.5, min_agreement=0.5)
    assert best([start, *lucky, found], rows, 3.0) is found
    as_many = outcome(36, 28, 0.9, min_agreement=0.1)
    assert best([start, as_many], rows, 3.0) is as_many


def test_rungs_grow_by_the_reduction_and_end_at_the_last_step():
    assert rung_steps(ProxyConfig(first_rung=8, reduction=2, steps=64)) == [8, 16, 32, 64]
    assert rung_steps(ProxyConfig(first_rung=5, reduction=3, steps=40)) == [5, 15, 40]
    assert rung_steps(ProxyConfig(first_rung=9, steps=4)) == [4]


def test_a_proxy_takes_the_steps_of_the_real_training():
    made = proxy_training(TrainingConfig(num_workers=4, micro_batch_size=8, gradient_accumulation=2), ProxyConfig())
    assert (made.num_workers, made.micro_batch_size * made.gradient_accumulation) == (1, 64)


def test_only_proxies_that_finished_can_win():
    stopped = Contestant(version="stopped", examples=5, rungs=[rung(8, 0.1)], finished=False)
    good = Contestant(version="good", examples=5, rungs=[rung(8, 0.9), rung(64, 0.4)], finished=True)
    worse = Contestant(version="worse", examples=5, rungs=[rung(8, 0.8), rung(64, 0.5)], finished=True)
    found = judge([stopped, worse, good], steps=64)
    assert found.winner == "good"
    assert (found.tokens, found.tokens_of_all) == (80 + 640 + 640, 3 * 640)


def test_records_are_kept_once_and_read_by_generation(tmp_path):
    records = Records(ObjectStore(str(tmp_path)), "f", "s")
    for number in (0, 1, 3):
        records.keep_trial(Trial(trial=number, outcomes=[outcome(number, 0, 0.0)], seconds=1))
    assert records.keep_trial(Trial(trial=1, outcomes=[], seconds=9)).seconds == 1
    assert [one.kept for one in known_before(records, 4, 2)] == [0, 1, 3]
    assert [one.kept for one in known_before(records, 3, 2)] == [0, 1]
    assert known_before(records, 1, 2) == []
    records.keep_rung("v", 0, rung(8, 0.5))
    records.keep_rung("v", 1, rung(16, 0.4))
    assert [one.step for one in records.rungs("v")] == [8, 16]
    assert (records.ended("v"), records.rungs("w")) == (False, [])
    records.end("v")
    assert records.ended("v")
    records.forget()
    assert (records.trials(9), records.rungs("v"), records.ended("v")) == ([], [], False)


def candidate(index: int, subject: str, text: str, **fields) -> Candidate:
    return Candidate(**{
        "inference_id": f"{index}", "flow": "f", "subject": subject, "rater": subject, "ts": NOW, "answer": "no",
        "target": "yes", "origin": "correction", "messages": [Message(role="user", content=text)], **fields,
    })  # fmt: skip


def test_proxies_never_learn_what_or_of_whom_they_are_asked():
    rows = [candidate(0, "a", "one", held_out="label_tune"), candidate(1, "a", "two"), candidate(2, "b", "ONE "),
            candidate(3, "c", "three"), candidate(4, "d", "four"), candidate(5, "e", "five", held_out="label_audit"),
            candidate(6, "g", "six", held_out="label_tune")]  # fmt: skip
    labels = [Label(label_id=f"l{i}", inference_id=f"{i}", flow="f", subject="s", annotator="r", ts=NOW, split="tune",
                    kind=kind, correction=text) for i, kind, text in
              [(0, "correct", "right"), (6, "accept", None), (4, "reject", None)]]  # fmt: skip
    answers = right_answers(rows, labels)
    assert {key: answer for key, (answer, _) in answers.items()} == {"0": "right", "6": "no"}
    data = proxy_data(rows, answers, allowed={"0", "1", "2", "3", "6"}, flow="f")
    assert [one.target for one in data.asked] == ["right", "no"]
    assert [row.inference_id for row in data.learn] == ["3"]  # not: same person, same prompt, no consent, held out
    examples = chosen(data, {}, FilterConfig(), max_examples=5, seed=0)
    assert [one.inference_ids for one in examples] == [["3"]]


def test_the_picture_is_xml_with_every_point_and_no_style(tmp_path):
    svg = pareto_svg(result(), [(0.5, 0.9), (0.7, 0.7), (0.0, 0.0)])
    root = ElementTree.fromstring(svg)
    circles = list(root.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 2 + 2 + 2  # the front, now and found, and the cloud but for what is off the axes
    assert "style" not in svg
    assert "98.0% right, 50.0% kept" in svg
    places = [(float(one.get("cx", 0)), float(one.get("cy", 0))) for one in circles[-2:]]
    assert places[1][0] < places[0][0]  # the winner keeps less,
    assert places[1][1] < places[0][1]  # and is right more often


def test_the_winners_file_is_a_filter_and_says_what_it_is(tmp_path):
    save_filter(result(), tmp_path / "filter.yaml")
    assert load(FilterConfig, tmp_path / "filter.yaml") == result().best
    assert "49 of 50 are right (before: 60 of 90)" in (tmp_path / "filter.yaml").read_text()
    assert changes(FilterConfig(), result().best) == {"min_agreement": (0.2, 0.5)}


def test_lines_say_what_changes_and_who_was_stopped():
    first = Contestant(version="sweep-x", examples=9, rungs=[rung(64, 0.4)], finished=True)
    second = Contestant(version="sweep-y", examples=7, rungs=[rung(8, 0.9)], finished=False)
    proxies = judge([first, second], steps=64)
    told = {**result(proxies=proxies).model_dump(mode="json"), "turn": "turn-0001", "out": "f.yaml", "picture": "f.svg",
            "changes": {"min_agreement": (0.2, 0.5)}, "repeated": False, "period": None}  # fmt: skip
    text = "\n".join(sweep_lines(told))
    assert "min_agreement: 0.2 -> 0.5" in text
    assert "sweep-y: 7 examples, step 8, loss 0.9000, exact 50.0%  stopped" in text
    assert "720 of 1,280 tokens" in text


def test_periods_have_names():
    sunday = datetime(2027, 1, 3, tzinfo=UTC)  # of the last ISO week of the year before
    assert [period_name(one, sunday) for one in ("day", "week", "month")] == ["2027-01-03", "2026-W53", "2027-01"]
    with pytest.raises(UsageError, match="day, week, month"):
        period_name("year", sunday)


def test_defaults_leave_the_turns_sweep_as_it_is():
    config = SweepConfig()
    assert config.generation >= config.trials  # all trials independent
    assert config.proxy.finalists == 0


def test_the_gates_report_shows_how_the_filter_was_chosen():
    plain, shown = render(make(*judged())), render(make(*judged(), sweep=result()))
    assert "How the filter was chosen" not in plain
    assert "20 filters were tried on 100 labels" in shown
    assert "98.0% right, 50.0% kept" in shown
    artifact = {**result().model_dump(mode="json", exclude={"best"}), "used": True,
                "filter": result().best.model_dump(mode="json")}  # fmt: skip
    assert _swept(artifact) == result()
    assert _swept({"used": True, "filter": {}, "value": 1}) is None
    assert _swept({"used": False, "why": "too few", "filter": {}}) is None
