"""Suites from labels and failures, and their versions in the lake."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.evaluation.cases import (
    failures_suite,
    load_cases,
    random_suite,
    retired,
    slice_of,
    starter_suite,
    store_cases,
)
from flywheel.lake.tables import Lake
from flywheel.records import Feedback, Inference, Label, Message
from flywheel.review.settle import current

T0 = datetime(2026, 1, 1, tzinfo=UTC)
RIGHT = '{"intent": "refund", "product": "camera"}'


def row(n: int, answer: str = '{"intent": "order", "product": "camera"}') -> Inference:
    return Inference(
        inference_id=f"i{n}", flow="triage", ts=T0, subject=f"s{n}", model_version="m1",
        messages=[Message(role="user", content=f"question {n}")], choices=[answer],
    )  # fmt: skip


def label(n: int, kind: str = "accept", correction: str | None = None, minutes: int = 0, **changes) -> Label:
    fields = {
        "label_id": f"l{n}-{minutes}", "inference_id": f"i{n}", "flow": "triage", "subject": f"s{n}",
        "annotator": "ann", "ts": T0 + timedelta(minutes=minutes), "kind": kind, "correction": correction,
        "split": "gate",
    }  # fmt: skip
    return Label(**{**fields, **changes})


def correction(n: int, text: str = RIGHT, minutes: int = 0, kind: str = "correction") -> Feedback:
    return Feedback(
        feedback_id=f"f{n}-{minutes}", inference_id=f"i{n}", flow="triage", subject=f"s{n}", kind=kind, text=text,
        ts=T0 + timedelta(minutes=minutes),
    )  # fmt: skip


ROWS = {f"i{n}": row(n) for n in range(10)}


def test_what_was_curated_and_later_drawn_is_of_the_random_sample_alone():
    curated = label(1, origin="curated")
    assert [case.inference_id for case in starter_suite([curated], ROWS)] == ["i1"]
    now = current([curated, label(1, minutes=5, origin="random")])  # as `read_labels` gives them
    assert starter_suite(now, ROWS) == []
    assert [case.inference_id for case in random_suite(now, ROWS)] == ["i1"]


def test_accept_expects_the_served_answer_and_correct_the_correction():
    cases = random_suite([label(1), label(2, "correct", RIGHT), label(3, "correct", "just text")], ROWS)
    by_row = {case.inference_id: case for case in cases}
    assert by_row["i1"].check.expected == {"intent": "order", "product": "camera"}
    assert by_row["i2"].check.expected == {"intent": "refund", "product": "camera"}
    assert (by_row["i3"].check.kind, by_row["i3"].check.expected) == ("normalised", "just text")
    assert [by_row[name].slice for name in ("i1", "i2", "i3")] == ["order", "refund", "just text"]
    assert {(case.suite, case.origin, case.subject, case.reviewer) for case in cases if case.inference_id == "i1"} == {
        ("random", "random", "s1", "ann")
    }


def test_the_random_suite_takes_random_gate_labels_of_known_rows_only():
    others = [label(1, split="tune"), label(2, split="audit"), label(3, origin="curated"), label(99)]
    assert random_suite(others, ROWS) == []
    assert [case.inference_id for case in starter_suite(others, ROWS)] == ["i3"]


def test_the_latest_label_wins():
    cases = random_suite([label(1, "correct", RIGHT, minutes=5), label(1, minutes=1)], ROWS)
    assert [case.check.expected["intent"] for case in cases] == ["refund"]


def test_who_says_no_right_answer_makes_no_case():
    silent = [
        label(1, "reject"), label(2, "rate", value=1), label(3, "rate", value=5),
        label(4, "compare", value=1, other_answer="x"),
    ]  # fmt: skip
    assert random_suite(silent, ROWS) == []
    corrected = random_suite([label(1, "reject"), label(1, "correct", RIGHT, minutes=1, annotator="bob")], ROWS)
    assert [case.check.expected["intent"] for case in corrected] == ["refund"]


def test_a_disputed_answer_makes_a_case_only_when_somebody_settled_it():
    dispute = [label(1), label(1, "correct", RIGHT, minutes=1, annotator="bob", origin="curated")]
    assert random_suite(dispute, ROWS) == starter_suite(dispute, ROWS) == []
    assert failures_suite([correction(1)], ROWS, evaluation_side={"i1"}, labels=dispute) == []
    settled = [*dispute, label(1, "correct", RIGHT, minutes=2, annotator="eve", adjudicates=True)]
    assert [case.check.expected["intent"] for case in random_suite(settled, ROWS)] == ["refund"]
    later = [*settled, label(1, "accept", minutes=3, annotator="dan")]
    assert [case.reviewer for case in random_suite(later, ROWS)] == ["eve"]


def test_a_reviewers_rejection_leaves_the_users_correction():
    cases = failures_suite([correction(1)], ROWS, evaluation_side={"i1"}, labels=[label(1, "reject")])
    assert [case.check.expected["intent"] for case in cases] == ["refund"]


def test_failures_need_a_correction_and_the_evaluation_side():
    feedback = [correction(1), correction(2), correction(3, kind="comment"), correction(88)]
    cases = failures_suite(feedback, ROWS, evaluation_side={"i1", "i3", "i88"})
    assert [(case.inference_id, case.suite, case.origin) for case in cases] == [("i1", "failures", "failure")]


def test_the_latest_correction_counts_and_a_reviewer_beats_it():
    feedback = [correction(1, '{"intent": "late"}', minutes=9), correction(1, '{"intent": "early"}', minutes=1)]
    side = {"i1"}
    assert failures_suite(feedback, ROWS, evaluation_side=side)[0].check.expected == {"intent": "late"}
    reviewed = failures_suite(feedback, ROWS, evaluation_side=side, labels=[label(1, split="audit")])
    assert reviewed[0].check.expected["intent"] == "order"


@pytest.mark.parametrize(
    ("expected", "group"),
    [('{"intent": "a", "b": 1}', "a"), ('{"n": 1}', None), ("{}", None), ("card lost", "card lost"), ("x" * 41, None),
     ("two\nlines", None), ("", None), ("[1]", None)],
)  # fmt: skip
def test_slices(expected, group):
    assert slice_of(ROWS["i1"], expected) == group


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_cases_are_stored_once_and_a_change_is_a_new_version(lake: Lake):
    first = random_suite([label(1), label(2)], ROWS)
    assert store_cases(lake, "triage", first) == 2
    assert store_cases(lake, "triage", first) == 0
    changed = random_suite([label(1), label(2, "correct", RIGHT, minutes=1)], ROWS)
    assert store_cases(lake, "triage", changed) == 1
    stored = load_cases(lake, "triage", ["random"])
    assert {case.inference_id: case.version for case in stored} == {"i1": 1, "i2": 2}
    assert store_cases(lake, "triage", changed) == 0
    assert load_cases(lake, "triage", ["other"]) == []
    assert load_cases(lake, "else") == []


def test_cases_that_no_longer_follow_are_retired_and_can_return(lake: Lake):
    both = random_suite([label(1), label(2)], ROWS)
    store_cases(lake, "triage", both)
    gone = retired(load_cases(lake, "triage"), both[:1], "random")
    assert store_cases(lake, "triage", gone) == 1
    assert [case.case_id for case in load_cases(lake, "triage")] == [both[0].case_id]
    assert store_cases(lake, "triage", both) == 1
    assert len(load_cases(lake, "triage")) == 2


@pytest.mark.parametrize("kind", ["reject", "rate", "compare"])
def test_a_label_that_knows_no_right_answer_makes_no_case_and_beats_no_correction(kind):
    assert random_suite([label(1, kind, value=1)], ROWS) == []
    (case,) = failures_suite([correction(1)], ROWS, evaluation_side={"i1"}, labels=[label(1, kind, value=1)])
    assert (case.check.expected["intent"], case.reviewer) == ("refund", None)


def test_cases_of_traffic_name_their_session_and_their_groups():
    asked = row(1).model_copy(update={"session_id": "a", "tenant": "shop", "messages": [
        Message(role="user", content="Wo ist mein Paket geblieben, das ich bestellt habe?")]})  # fmt: skip
    (case,) = random_suite([label(1)], {"i1": asked})
    assert (case.session_id, case.slices) == ("a", {"language": "de", "length": "short", "tenant": "shop"})
