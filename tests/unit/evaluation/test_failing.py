"""Signs of failure, and who may judge."""

import pytest

from flywheel.evaluation.failing import signs_of_failure, split_failures
from flywheel.records import Judgement
from flywheel.review.splits import failure_split, sides


def found(rows, feedback=(), judgements=()):
    return {key: set(signs) for key, signs in signs_of_failure(rows, feedback, judgements).items()}


@pytest.mark.parametrize(
    ("events", "signs"),
    [
        ([("thumbs", -1, None)], {"thumbs"}),
        ([("thumbs", 1, None)], None),
        ([("rating", 2, None)], {"rating"}),
        ([("rating", 3, None)], None),
        ([("correction", None, "Friday")], {"correction"}),
        ([("correction", None, " no idea ")], None),
        ([("reprompt", None, None)], {"reprompt"}),
        ([("abandon", None, None), ("reprompt", None, None)], {"abandon", "reprompt"}),
        ([("comment", None, "hm")], None),
        ([("abandon", None, None), ("thumbs", 1, None)], None),
        ([("abandon", None, None), ("copy", None, None)], None),
        ([("thumbs", -1, None), ("copy", None, None)], {"thumbs"}),
    ],
)
def test_what_people_do_is_a_sign_and_praise_outweighs_a_hint(asked, said, events, signs):
    got = found([asked(1)], [said(1, *event) for event in events])
    assert got == ({"i1": signs} if signs else {})


def test_asking_nearly_the_same_again_is_a_reprompt_and_going_on_is_not(asked):
    first = asked(1, "where is my parcel number 4711")
    same = asked(2, "where is my parcel with number 4711?", parent_id="i1", subject="s1")
    other = asked(3, "thank you, and when do you open?", parent_id="i1", subject="s1")
    stranger = asked(4, "where is my parcel number 4711", parent_id="i1")
    assert found([first, same]) == {"i1": {"reprompt"}}
    assert found([first, other, stranger]) == {}


def judgement(n, verdict, left="m1", right="m2", **changes):
    fields = {
        "judgement_id": f"j{n}-{verdict}-{left}", "flow": "triage", "ts": "2026-01-01T00:00:00Z", "judge": "j",
        "item_id": f"i{n}", "left_version": left, "right_version": right, "verdict": verdict, "forward": "tie",
        "backward": "tie", "left_length": 1, "right_length": 1,
    }  # fmt: skip
    return Judgement(**{**fields, **changes})


def test_an_answer_that_lost_more_comparisons_than_it_won_failed(asked):
    rows = [asked(n) for n in range(5)]
    opinions = [
        judgement(0, "right"), judgement(0, "tie"), judgement(0, "abstain"),
        judgement(1, "left"), judgement(1, "right"),
        judgement(2, "right", left="m3", right="m4"),
        judgement(3, "left", left="m2", right="m1"),
        judgement(4, "right", error="late"),
        # asked to measure the judge: the served answer won, whoever wrote the other one
        judgement(2, "left", left="served", right="m1"), judgement(4, "right", left="served", right="correction"),
    ]  # fmt: skip
    assert found(rows, judgements=opinions) == {"i0": {"judge"}, "i3": {"judge"}}


def test_an_answer_that_never_was_cannot_fail(asked, said):
    assert found([asked(1, choices=[])], [said(1, value=-1)]) == {}


def test_hints_do_not_change_who_of_those_with_explicit_failures_judges(asked, said):
    rows = [asked(n) for n in range(80)]
    feedback = [said(n, value=-1) if n < 40 else said(n, "abandon") for n in range(80)]
    signs = signs_of_failure(rows, feedback)
    failures, halves = split_failures(rows, signs, share=0.3, seed=0, decided={})
    explicit = [failure for failure in failures if "thumbs" in signs[failure.inference_id]]
    alone = failure_split(explicit, share=0.3, seed=0)
    assert halves.evaluation & {f.inference_id for f in explicit} == alone.evaluation
    assert abs(len(halves.evaluation) - 24) <= 1
    again, later = split_failures(rows, signs, share=0.9, seed=5, decided=sides(failures, halves))
    assert (len(again), later) == (80, halves)
