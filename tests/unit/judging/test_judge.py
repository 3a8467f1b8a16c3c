"""Both orders, abstentions, scorers as judges, judges as checks."""

import pytest

from flywheel.errors import EngineError, UsageError
from flywheel.judging.judge import Answer, ByMarks, Opinion, ScorerJudge, as_check, judge_version
from flywheel.records import Message

ASKED = [Message(role="user", content="q")]


@pytest.mark.parametrize(
    ("forward", "backward", "verdict"),
    [
        ("left", "left", "left"), ("right", "right", "right"), ("tie", "tie", "tie"), ("left", "tie", "tie"),
        ("tie", "right", "tie"), ("left", "right", "abstain"), ("right", "left", "abstain"),
        ("invalid", "left", "abstain"), ("tie", "invalid", "abstain"),
    ],
)  # fmt: skip
def test_the_verdict_is_what_both_orders_say(forward, backward, verdict):
    assert Opinion(forward, backward).verdict == verdict


def test_a_pair_is_asked_in_both_orders_without_names(make):
    seen = []

    def remember(answers):
        seen.append(answers)
        return '{"better": "A"}' if "good" in answers[0] else '{"better": "B"}'

    (opinion,) = make["judge"](remember).compare([make["pair"]()])
    assert seen == [["good", "bad"], ["bad", "good"]]
    assert (opinion.forward, opinion.backward, opinion.verdict) == ("left", "left", "left")


def test_a_judge_of_places_abstains(make):
    (opinion,) = make["judge"](lambda _: '{"better": "A"}').compare([make["pair"]()])
    assert (opinion.forward, opinion.backward, opinion.verdict) == ("left", "right", "abstain")


@pytest.mark.parametrize(
    ("reply", "failed", "error"),
    [("I prefer A", False, "another form"), ("refused: too long", False, "too long"), (None, True, "connection lost")],
)
def test_no_answer_abstains_and_says_whether_asking_again_may_help(make, reply, failed, error):
    (opinion,) = make["judge"](lambda _: reply).compare([make["pair"]()])
    assert (opinion.verdict, opinion.failed) == ("abstain", failed)
    assert error in opinion.error


def test_marks(make):
    judge = make["judge"](lambda answers: '{"score": 8}' if answers == ["good"] else "eight")
    good, other = judge.score([Answer(ASKED, "good"), Answer(ASKED, "bad")])
    assert (good.value, other.value, other.failed) == (0.8, None, False)
    assert as_check(judge)([Answer(ASKED, "good", "right?"), Answer(ASKED, "bad")]) == [0.8, 0.0]


def test_a_check_says_when_its_judge_is_away_and_refuses_one_outside(make):
    with pytest.raises(EngineError, match="connection lost"):
        as_check(make["judge"](lambda _: None))([Answer(ASKED, "x")])
    with pytest.raises(UsageError, match="outside the cluster"):
        as_check(make["judge"](needs=frozenset({"evaluation", "third_party"})))


def test_scorers_compare_by_their_margin(make):
    judge = ScorerJudge("s", lambda _, answers: [float(len(text)) for text in answers], margin=1)
    opinions = judge.compare([make["pair"](left="aaa", right="a"), make["pair"](left="a", right="aa")])
    assert [opinion.verdict for opinion in opinions] == ["left", "tie"]


def test_a_marking_judge_compares_by_marks(make):
    judge = ByMarks(make["judge"](lambda answers: {"good": '{"score": 9}', "away": None}.get(answers[0], "?")))
    pairs = [make["pair"](), make["pair"](left="?", right="good"), make["pair"](left="x"), make["pair"](left="away")]
    opinions = judge.compare(pairs)
    assert [opinion.verdict for opinion in opinions] == ["left", "right", "tie", "abstain"]
    assert [opinion.failed for opinion in opinions] == [False, False, False, True]


def test_versions_change_with_model_settings_and_criterion():
    asked = [({"model": "a"}, "x"), ({"model": "b"}, "x"), ({"model": "a", "form": "free"}, "x"), ({"model": "a"}, "y")]
    versions = {judge_version(*what) for what in asked}
    assert len(versions) == 4
    assert judge_version({"model": "a"}, "x") in versions
