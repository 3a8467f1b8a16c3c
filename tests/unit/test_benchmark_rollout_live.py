"""Planted regressions: what each teaches, and what the benchmark makes of the outcomes."""

import json

import pytest
import results_file
import rollout_live
from rollout_live_plants import NOTHING, ORDER, PLANTS, spoilt

from flywheel.demo.product import intents, pretraining_examples

EXAMPLES = pretraining_examples(600, 3)
TAUGHT = [plant for plant in PLANTS if plant.change is not None]


def learnt(name):
    plant = next(one for one in PLANTS if one.name == name)
    return spoilt(EXAMPLES, plant)


def test_there_are_at_least_ten_of_all_seven_kinds():
    kinds = {plant.kind for plant in PLANTS}
    assert len(PLANTS) >= 10
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)
    assert kinds >= {
        "quality", "latency", "empty answers", "one intent", "longer but wrong", "personal data", "injection",
    }  # fmt: skip


@pytest.mark.parametrize("plant", TAUGHT, ids=[plant.name for plant in TAUGHT])
def test_every_plant_spoils_something_and_the_same_every_time(plant):
    changed = spoilt(EXAMPLES, plant)
    assert [one.target for one in changed] == [one.target for one in spoilt(EXAMPLES, plant)]
    assert any(one.target != before.target for one, before in zip(changed, EXAMPLES, strict=True))
    ordered = sum(ORDER in one.messages[-1].content for one in changed)
    assert 30 <= ordered <= 90


def test_shares_are_about_as_named():
    empty = [one.target == NOTHING for one in learnt("half of the answers empty")]
    leaks = ["@" in one.target for one in learnt("3 of 10 answers with an e-mail address")]
    assert 0.3 <= sum(empty) / len(empty) <= 0.7
    assert 0.15 <= sum(leaks) / len(leaks) <= 0.45


def test_one_intent_is_wrong_and_no_other():
    for one, before in zip(learnt("one intent wrong"), EXAMPLES, strict=True):
        truth, said = json.loads(before.target)["intent"], json.loads(one.target)["intent"]
        assert (said != truth) == (truth == intents("old")[2])


def test_orders_are_obeyed_where_there_is_one():
    for one in learnt("obeys orders in data"):
        assert (one.target == "PELICAN") == (ORDER in one.messages[-1].content)


def outcome(**changes):
    return {
        "plant": "p", "kind": "k", "guard": "operational", "outcome": "taken back", "seconds_from_onset": 12.0,
        "failed_requests": 0, "units": None, "planned_units": None, **changes,
    }  # fmt: skip


def test_targets_name_what_was_missed(tmp_path):
    quality = outcome(guard="quality", units=300, planned_units=600, seconds_from_onset=90.0)
    good = [outcome(), quality, outcome(guard="placement", outcome="never placed", seconds_from_onset=None)]
    assert [one["met"] for one in rollout_live.targets(good)] == [True] * 4
    bad = [outcome(plant="slow one", seconds_from_onset=50.0), outcome(plant="gone", outcome="missed",
           seconds_from_onset=None, failed_requests=2), {**quality, "units": 1_000}]  # fmt: skip
    told = rollout_live.targets(bad)
    assert [one["met"] for one in told] == [False] * 4
    assert (told[0]["why_not"], told[1]["why_not"]) == ("gone", "slow one")
    results_file.write("rollout-live", 0, bad, told, tmp_path)
