"""What people chose side by side: by session, whatever the order, and only choices count."""

import random

import pytest
from live_traffic import asked, at, said
from rich.console import Console

from flywheel.config import FlywheelConfig, GatePolicy, LiveQualityConfig, load
from flywheel.lake.tables import Lake
from flywheel.operate import rollout_table
from flywheel.rollout import canaries, routing
from flywheel.rollout.live import stored
from flywheel.rollout.live.chosen import CHOICES, ChosenBook
from flywheel.rollout.live.instrument import Voters
from flywheel.rollout.live.verdict import judged
from flywheel.rollout.live.watch import Watch
from flywheel.rollout.machine.look import quality_of
from flywheel.rollout.routing import Canary, Shadow, Variant

RULES = LiveQualityConfig(late_s=30, settle_s=10, react_s=20)
LATER = at(100_000).timestamp()
WHO = {"actor": "t", "reason": "r"}


def shown(seconds, n, first, **changes):
    """Two answers; ``first``: whose stands first."""
    second = "v2" if first == "v1" else "v1"
    versions = [first, second]
    return asked(
        seconds, n, choices=[f"of {one}" for one in versions], choice_versions=versions,
        choice_served=versions.index("v1"), assignment="side_by_side", **changes,
    )  # fmt: skip


def prefers(row, version, *, after=5.0, place=None):
    """The user says of one answer, at ``place``, that it is better or worse."""
    place = row.choice_versions.index(version) if place is None else place
    value = 1.0 if row.choice_versions[place] == version else -1.0
    return said(row, "comparison", value, after=after).model_copy(update={"choice_index": place})


def book() -> ChosenBook:
    return ChosenBook(RULES, GatePolicy(), candidate="v2", live="v1")


def verdict(made):
    made.settle(LATER)
    return judged(made.tally, [CHOICES], Voters([CHOICES.name], {}), GatePolicy(), flow="f", candidate="v2", live="v1")


def traffic(sessions, wins, *, seed=1):
    """One request each; ``wins``: chance that the candidate is preferred."""
    made, rng = book(), random.Random(seed)
    for n in range(sessions):
        row = shown(n, n, rng.choice(["v1", "v2"]), session=f"s{n}")
        made.answered(row)
        made.reacted(prefers(row, "v2" if rng.random() < wins else "v1", place=rng.choice([0, 1])))
    return made


def test_people_who_prefer_the_candidate_show_it_and_those_who_do_not_stop_it():
    better, worse = verdict(traffic(300, 0.75)), verdict(traffic(300, 0.3))
    assert (better.state, worse.state) == ("better", "worse")
    assert better.mean == pytest.approx(0.5, abs=0.12)
    assert worse.mean == pytest.approx(-0.4, abs=0.12)
    assert better.source == "side_by_side"


def test_equal_models_are_seldom_called_different():
    states = [verdict(traffic(400, 0.5, seed=seed)).state for seed in range(40)]
    assert states.count("worse") + states.count("better") <= 4


def test_a_tie_is_0_the_last_word_counts_and_late_ones_do_not():
    made = book()
    for n, words in enumerate(
        ([("v1", 2.0), ("v2", 6.0)], [("v2", 3.0), ("v1", 25.0)], [])
    ):  # the second thought again too late, the third did not choose
        row = shown(n * 100, n, "v1", session=f"s{n}")
        made.answered(row)
        for version, after in words:
            made.reacted(prefers(row, version, after=after))
    tied = shown(900, 9, "v2", session="s9")
    made.answered(tied)
    made.reacted(said(tied, "comparison", 0.0))
    found = verdict(made)
    assert (found.units, found.pairs) == (3, 3)
    assert found.mean == pytest.approx(2 / 3)


def test_other_rows_and_reactions_are_nothing():
    made = book()
    made.answered(asked(0, 1))
    third = shown(5, 2, "v1").model_copy(update={"choice_versions": ["v1", "v3"]})
    made.answered(third)
    made.reacted(prefers(third, "v1"))
    row = shown(10, 3, "v1")
    made.answered(row)
    made.reacted(said(row, "thumbs", -1.0))
    found = verdict(made)
    assert (found.units, found.mean, found.state) == (0, None, "undecided")


def test_choices_of_one_session_are_one_unit():
    made = book()
    for n in range(3):
        row = shown(n, n, "v2", session="s1")
        made.answered(row)
        made.reacted(prefers(row, "v2"))
    assert verdict(made).units == 1


@pytest.mark.parametrize("role", ["shadow", "canary"])
def test_the_watch_follows_choices_and_goes_on_after_a_restart(tmp_path, role):
    config = load(FlywheelConfig, None, {"gateway.side_by_side.share": 0.1, "rollout.live": RULES.model_dump()})
    lake, now = Lake(str(tmp_path)), [0.0]
    state = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t").model_copy(update={"ts": at(0)})
    routing.publish(lake.store, state)
    if role == "shadow":
        state = routing.with_shadow(state, Shadow(version="v2", folder="/v2"), **WHO)
    else:
        state = canaries.with_canary(state, Canary(version="v2", folder="/v2", share=0.25), **WHO)
    routing.publish(lake.store, state.model_copy(update={"ts": at(0)}))

    def watch():
        return Watch(lake, config, [], clock=lambda: at(now[0]))

    rng, first = random.Random(4), watch()
    for batch in range(3):
        rows = [shown(n * 2, n, rng.choice(["v1", "v2"]), session=f"s{n}") for n in range(batch * 80, batch * 80 + 80)]
        words = [prefers(row, "v1" if rng.random() < 0.85 else "v2") for row in rows if rng.random() < 0.9]
        lake.append("inferences", rows, app="test", version=batch)
        lake.append("feedback", words, app="test", version=batch)
        now[0] = batch * 160 + 170
        first.update()
    now[0] = 2_000
    found = {one.source: one for one in first.update()}
    assert sorted(found) == sorted([role, "side_by_side"])
    assert found["side_by_side"].state == "worse"
    assert 190 <= found["side_by_side"].units <= 240
    assert {one.source: one for one in watch().update()}["side_by_side"] == found["side_by_side"]
    lake.store.delete([stored.key("triage")])
    assert {one.source: one for one in watch().update()}["side_by_side"] == found["side_by_side"]
    undecided = found["side_by_side"].model_copy(update={"source": role, "state": "undecided"})
    assert quality_of([undecided, found["side_by_side"]], "v2", "v1") == found["side_by_side"]


def test_people_see_every_place_where_a_candidate_is_compared():
    console = Console(width=200, record=True)
    words = [verdict(traffic(40, 0.5)).model_dump(mode="json"), {"source": "shadow", "state": "no_worse", "units": 7}]
    one = {"version": "v2", "waits": [], "obstacle": None, "guards": [], "comparisons": words}
    words[1]["planned_units"] = 1_200
    rollout_table._details(one, console)
    said = console.export_text()
    assert "v2 on live traffic (side by side): undecided, 40 of" in said
    assert "v2 on live traffic (shadow): no worse, 7 of 1,200 planned units" in said


def test_where_nothing_is_shown_nobody_is_followed(tmp_path):
    lake = Lake(str(tmp_path))
    state = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")
    routing.publish(lake.store, state)
    routing.publish(lake.store, routing.with_shadow(state, Shadow(version="v2", folder="/v2"), **WHO))
    found = Watch(lake, FlywheelConfig(flow="triage"), []).update()
    assert [one.source for one in found] == ["shadow"]
