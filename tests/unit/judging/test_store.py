"""Judgements are asked for once and stored once."""

import pytest

from flywheel.errors import EngineError
from flywheel.judging import store
from flywheel.judging.store import count_judgements, judge_pairs, read_judgements
from flywheel.records import Judgement

OUTSIDE = frozenset({"evaluation", "third_party"})


def rows(lake):
    return lake.records("judgements", Judgement, flow="f")


def test_each_question_is_asked_once_and_each_row_stored_once(lake, make, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", 3)
    judge, pairs, seen = make["judge"](), [make["pair"](number) for number in range(7)], []
    first = judge_pairs(lake, "f", judge, pairs, on_progress=lambda done, total: seen.append((done, total)))
    again = judge_pairs(lake, "f", judge, [*pairs, pairs[0]])
    assert (first.asked, first.reused, again.asked, again.reused) == (7, 0, 0, 7)
    assert judge.ask.asked == 14
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert sorted(row.judgement_id for row in rows(lake)) == sorted(row.judgement_id for row in again.rows)
    assert count_judgements(lake, "f", "judge-1") == 7


def test_a_row_says_all_but_the_texts(lake, make):
    (row,) = judge_pairs(lake, "f", make["judge"](), [make["pair"](3, right="worse")]).rows
    assert (row.judge, row.item_id, row.subject, row.verdict) == ("judge-1", "item-3", "s3", "left")
    assert (row.left_version, row.right_version, row.left_length, row.right_length) == ("v2", "v1", 4, 5)


def test_the_same_answers_in_other_names_are_another_row_but_no_other_question(lake, make):
    judge = make["judge"]()
    judge_pairs(lake, "f", judge, [make["pair"]()])
    done = judge_pairs(lake, "f", judge, [make["pair"](left_version="v3")])
    assert (done.asked, done.reused, judge.ask.asked, len(rows(lake))) == (0, 1, 2, 2)
    assert [row.verdict for row in read_judgements(lake, "f", "judge-1", left="v3", right="v1")] == ["left"]


def test_another_version_of_the_judge_is_asked_anew(lake, make):
    judge_pairs(lake, "f", make["judge"](), [make["pair"]()])
    assert judge_pairs(lake, "f", make["judge"](version="judge-2"), [make["pair"]()]).asked == 1


def test_rows_are_turned(lake, make):
    judge_pairs(lake, "f", make["judge"](), [make["pair"](1), make["pair"](2, left="bad", right="good one")])
    turned = {row.item_id: row for row in read_judgements(lake, "f", "judge-1", left="v1", right="v2")}
    assert [turned[f"item-{number}"].verdict for number in (1, 2)] == ["right", "left"]
    assert (turned["item-2"].left_length, turned["item-2"].right_length) == (8, 3)
    assert read_judgements(lake, "f", "judge-1", left="v1", right="v9") == []


def test_equal_answers_are_a_tie_that_costs_nothing(lake, make):
    judge = make["judge"]()
    (row,) = judge_pairs(lake, "f", judge, [make["pair"](right="good")]).rows
    assert (row.verdict, judge.ask.asked) == ("tie", 0)


def test_people_decide_what_a_judge_sees(lake, make):
    pairs = [make["pair"](0), make["pair"](1, purposes=OUTSIDE), make["pair"](2, purposes=frozenset({"training"}))]
    done = judge_pairs(lake, "f", make["judge"](needs=OUTSIDE), pairs)
    assert [row.item_id for row in done.rows] == ["item-1"]
    assert done.dropped == {"no_consent:third_party": 1, "no_consent:evaluation": 1}
    assert judge_pairs(lake, "f", make["judge"](), pairs).dropped == {"no_consent:evaluation": 1}


def test_failures_are_counted_and_asked_again_and_a_dead_judge_is_an_error(lake, make):
    pairs, away = [make["pair"](number, left=f"good {number}") for number in range(4)], {"good 2"}

    def reply(answers):
        return None if away & set(answers) else '{"better": "tie"}'

    judge = make["judge"](reply)
    done = judge_pairs(lake, "f", judge, pairs)
    assert (done.asked, done.failed, len(rows(lake))) == (3, 1, 3)
    with pytest.raises(EngineError, match="connection lost"):
        judge_pairs(lake, "f", judge, pairs)
    away.clear()
    done = judge_pairs(lake, "f", judge, pairs)
    assert (done.asked, done.reused, done.failed, len(rows(lake))) == (1, 3, 0, 4)


def test_an_invalid_reply_is_final(lake, make):
    judge = make["judge"](lambda _: "I like both")
    for _ in range(2):
        (row,) = judge_pairs(lake, "f", judge, [make["pair"]()]).rows
    assert (row.verdict, row.forward, row.backward, judge.ask.asked) == ("abstain", "invalid", "invalid", 2)
    assert "another form" in row.error


def test_a_racing_run_of_the_same_judge_stores_no_row_twice(lake, make, monkeypatch):
    judge, pairs = make["judge"](), [make["pair"](number) for number in range(3)]
    append, raced = lake.append, []

    def slow(table, rows, **more):
        if not raced:
            raced.append(True)
            judge_pairs(lake, "f", make["judge"](), pairs[:2])
        return append(table, rows, **more)

    monkeypatch.setattr(lake, "append", slow)
    judge_pairs(lake, "f", judge, pairs)
    assert sorted(row.item_id for row in rows(lake)) == ["item-0", "item-1", "item-2"]
