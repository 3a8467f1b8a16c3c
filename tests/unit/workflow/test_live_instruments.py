"""What measures live pairs here: each instrument is there, or says why not, and favours neither of equal answers."""

import math
from types import SimpleNamespace

import pytest
from live_traffic import asked, brought

from flywheel.config import FlywheelConfig
from flywheel.evaluation.checks import Opinion, Scorers
from flywheel.judging.judge import Opinion as Said
from flywheel.lake.tables import Lake
from flywheel.records import Consent, Example
from flywheel.rollout import routing
from flywheel.rollout.live.instrument import Mirrored
from flywheel.rollout.routing import Shadow, Variant
from flywheel.workflow.evaluations import judge_runs
from flywheel.workflow.live import instruments as made
from flywheel.workflow.live.watching import Withdrawn, open_watch, verdict_on


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path))


CONFIG = FlywheelConfig(flow="triage")
ENDPOINT = {"backend": "endpoint", "model": "m", "url": "http://127.0.0.1:9/v1"}


def by_name(lake, config=CONFIG):
    return {one.name: one for one in made.live_instruments(lake, config)}


def judging(**changes) -> FlywheelConfig:
    return FlywheelConfig.model_validate({"flow": "triage", "judging": {**ENDPOINT, **changes}})


def pairs(*answers):
    rows = [asked(n, n) for n in range(len(answers))]
    return [Mirrored(brought(row, answer), row.messages) for row, answer in zip(rows, answers, strict=True)]


def test_without_models_there_are_rules_and_reasons(lake):
    found = by_name(lake)
    assert found["checks"].score is not None
    assert found["reward"].score is None
    assert "evaluation.reward_model" in found["reward"].absent
    assert found["judge"].absent == judge_runs.NO_JUDGE


def test_a_reward_model_that_is_not_there_says_so(lake):
    config = FlywheelConfig.model_validate({"flow": "triage", "evaluation": {"reward_model": "reward-x"}})
    assert "reward-x" in by_name(lake, config)["reward"].absent


def test_a_judge_that_nobody_calibrated_does_not_count(lake):
    assert "does not count" in by_name(lake, judging())["judge"].absent
    own = FlywheelConfig.model_validate({"flow": "triage", "judging": {"backend": "engine", "model": "v0"}})
    assert "endpoint" in by_name(lake, own)["judge"].absent


def test_the_usual_form_is_that_of_right_answers(lake):
    targets = ['{"intent": "a", "urgency": 1}'] * 25 + ["hello"] * 5
    assert made.usual_shape(targets) == {"intent": "str", "urgency": "number"}
    assert made.usual_shape(targets[:10]) is None
    assert made.usual_shape(["hello"] * 40) is None
    rows = [
        Example(example_id=f"e{n}", flow="triage", messages=[], target=target, inference_ids=[f"i{n}"], subject="u",
                origin="liked")
        for n, target in enumerate(targets)
    ]  # fmt: skip
    lake.append("examples", rows, app="t", version=1)
    found = by_name(lake)["checks"]
    assert found.version != by_name(Lake(f"{lake.uri}/other"))["checks"].version
    formless, formed = pairs("sorry?", '{"intent": "b", "urgency": 2}')
    right = formless.pair.model_copy(update={"live_answer": '{"intent": "b", "urgency": 1}'})
    assert found.score([Mirrored(right, formless.messages)]) == [-1.0]
    assert found.score([formed]) == [1.0], "here the live answer is the one without form"


def test_rewards_become_differences_without_a_favourite():
    def score(items):
        assert len(items) <= 7, "from eight prompts on a reward model looks at answers together"
        return [Opinion(len(item.answer) - len(item.check.expected)) for item in items]

    scorers = Scorers(by_kind={"reward": score})
    found = made.reward_differences(scorers, pairs("It is on its way.", "It is on its way. Yes.", "", *["x"] * 20))
    assert found[0] == 0.0
    assert 0 < found[1] <= 1
    assert found[2] == 0.0, "an empty answer is left to the rules"
    assert found[1] == pytest.approx(math.tanh(5 / 2))
    assert found[3] < 0
    nothing = Scorers(by_kind={"reward": lambda items: [Opinion(None)] * len(items)})
    assert made.reward_differences(nothing, pairs("a", "b")) == [None, None]


class FakeJudge:
    version, needs, reported = "judge-1", frozenset({"evaluation"}), ["m"]

    def compare(self, pairs, on_progress=None):
        worth = {"good": 2, "It is on its way.": 1}
        found = []
        for pair in pairs:
            left, right = worth.get(pair.left, 0), worth.get(pair.right, 0)
            side = "left" if left > right else "right" if right > left else "tie"
            found.append(Said("tie", "tie", "gone", True) if pair.left == "unreachable" else Said(side, side))
        return found


def test_a_judge_that_counts_compares_pairs_and_is_asked_once(lake, monkeypatch):
    asked_of = []

    class Counting(FakeJudge):
        def compare(self, pairs, on_progress=None):
            asked_of.extend(pair.item_id for pair in pairs)
            return super().compare(pairs)

    monkeypatch.setattr(judge_runs, "may_gate", lambda *_: (True, "fine"))
    opened = judge_runs.opened
    monkeypatch.setattr(judge_runs, "opened", lambda lake, config: opened(lake, config, Counting()))
    mirrored = pairs("good", "bad", "It is on its way.")
    rows = [asked(n, n) for n in range(3)]
    lake.append("inferences", rows, app="t", version=1)
    judge = by_name(lake, judging())["judge"]
    assert judge.score(mirrored) == [1.0, -1.0, 0.0]
    assert judge.score(mirrored) == [1.0, -1.0, 0.0]
    assert len(asked_of) == len(set(asked_of))


def test_a_judge_sees_nobody_who_does_not_agree(lake, monkeypatch):
    monkeypatch.setattr(judge_runs, "may_gate", lambda *_: (True, "fine"))
    opened = judge_runs.opened
    monkeypatch.setattr(judge_runs, "opened", lambda lake, config: opened(lake, config, FakeJudge()))
    rows = [asked(0, 0), asked(1, 1, consent=[])]
    lake.append("inferences", rows, app="t", version=1)
    assert by_name(lake, judging())["judge"].score(pairs("good", "good")) == [1.0, None]


def test_a_judge_that_is_a_signal_of_the_filter_helps_to_make_candidates(lake, monkeypatch):
    monkeypatch.setattr(judge_runs, "may_gate", lambda *_: (True, "fine"))
    config = judging()
    signals = config.quality.signals.model_copy(update={"judge": SimpleNamespace(enabled=True)})
    quality = config.quality.model_copy(update={"signals": signals})
    assert by_name(lake, config.model_copy(update={"quality": quality}))["judge"].helped


def test_a_watch_of_a_flow_with_a_shadow_and_nothing_else(lake):
    """As the rollout's controller opens it: a candidate nobody knows the origins of, no model that measures."""
    first = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")
    routing.publish(lake.store, first)
    shadow = Shadow(version="v2", folder="/v2")
    routing.publish(lake.store, routing.with_shadow(first, shadow, actor="t", reason="r"))
    watch = open_watch(lake, CONFIG)
    found = verdict_on(watch, candidate="v2", live="v1")
    assert (found.state, found.units) == ("undecided", 0)
    assert "evaluation.reward_model" in next(one.text for one in found.reasons if one.name == "quality")
    assert verdict_on(watch, candidate="v3", live="v1") is None


def test_who_withdrew_their_consent_to_evaluation(lake):
    withdrawn = Withdrawn(lake, "triage")
    assert withdrawn() == frozenset()
    ts = asked(0, 0).ts
    lake.append(
        "consents",
        [
            Consent(subject="a", purpose="evaluation", ts=ts, state="withdrawn"),
            Consent(subject="b", purpose="evaluation", ts=ts, state="granted"),
            Consent(subject="c", purpose="training", ts=ts, state="withdrawn"),
        ],
        app="t",
        version=1,
    )
    assert withdrawn() == {"a"}
    assert withdrawn() is withdrawn(), "read again only when somebody said something new"
