"""A constant answer never wins a reward comparison that counts."""

import pytest

from flywheel.config import EvaluationConfig, FlywheelConfig
from flywheel.errors import UsageError
from flywheel.evaluation.cases import store_cases
from flywheel.evaluation.checks import Opinion, Scorers
from flywheel.lake.tables import open_lake
from flywheel.records import Check, EvalCase, Message
from flywheel.workflow.evaluations import scorers as made
from flywheel.workflow.evaluations.reward_trial import constant_wins, refuse_constant_winners

ANSWERS = ["ship it today", "refund the lamp", "close my account", "call me back"]


def case(n, expected=None, suite="random"):
    return EvalCase(
        case_id=f"c{n}", flow="triage", suite=suite, origin="import",
        messages=[Message(role="user", content=f"please {ANSWERS[n % 4]}, number {n}")],
        check=Check(kind="reward", expected=ANSWERS[n % 4] if expected is None else expected, threshold=0.0),
    )  # fmt: skip


def by(reward):
    """Scorers of a reward model: margin of the answer over the reference."""

    def score(items):
        return [Opinion(reward(i, i.answer) - reward(i, str(i.check.expected))) for i in items]

    return Scorers(by_kind={"reward": score}, absent={}, versions={"reward": "reward-1"})


def length(_, answer):
    return len(answer)


def nothing(_, answer):
    return 0.0


def liking_one(_, answer):
    return 5.0 if answer == ANSWERS[2] else 0.0


def relevance(item, answer):
    """Words of the answer that the question has, less those that it does not have; so nothing is worth nothing."""
    asked, said = set(item.messages[0].content.replace(",", "").split()), set(answer.split())
    return len(said & asked) - len(said - asked)


CASES = [case(n) for n in range(40)]


@pytest.mark.parametrize(
    ("reward", "worst"),
    [(length, "everything|headed|stalling"), (nothing, "stalling"), (liking_one, "close my account")],
)
def test_what_a_constant_can_win_does_not_count(reward, worst):
    with pytest.raises(
        UsageError, match=rf"'reward-1' the constant answer '({worst})' passes .* so nothing it says counts"
    ):
        refuse_constant_winners(CASES, by(reward), most=0.1)


def test_what_reads_the_question_counts():
    refuse_constant_winners(CASES, by(relevance), most=0.1)
    wins = constant_wins(CASES, by(relevance))
    assert set(ANSWERS) <= set(wins)
    assert all(hits == 0 for hits, _ in wins.values())
    assert wins["ship it today"][1] == 30  # not put to the ten that expect it


def test_checks_of_other_kinds_ask_no_reward_model():
    other = EvalCase(case_id="x", flow="triage", suite="random", origin="import", messages=CASES[0].messages,
                     check=Check(kind="exact", expected="a"))  # fmt: skip
    assert constant_wins([other], Scorers()) == {}
    refuse_constant_winners([other], Scorers(), most=0.0)


def test_a_turn_is_told_before_it_trains(tmp_path, monkeypatch):
    config = FlywheelConfig(home=tmp_path, evaluation=EvaluationConfig(report_suites=["extra"]))
    lake = open_lake(config)
    monkeypatch.setattr(made, "make_scorers", lambda *_, **__: by(length))
    store_cases(lake, "triage", [case(n, suite="extra") for n in range(8)])
    made.check_markable(lake, config)  # a suite that only reports decides nothing
    store_cases(lake, "triage", [case(n + 100) for n in range(8)])
    with pytest.raises(UsageError, match="reward-1"):
        made.check_markable(lake, config)
