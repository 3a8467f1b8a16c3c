"""Routing changes and their projections, run once, twice, at once and after a kill. MLflow is stood in for."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import flywheel.rollout.promotion as promotion
from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError, EnvironmentProblem, UsageError
from flywheel.lake.tables import Lake
from flywheel.records import Decision, Reason
from flywheel.rollout import canary_steps
from flywheel.rollout import routing as truth
from flywheel.rollout.routing import Variant

CONFIG = FlywheelConfig()
ONE, TWO, THREE = (Variant(version=f"v{n}", folder=f"/models/v{n}") for n in (1, 2, 3))


@pytest.fixture
def aliases(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    shown: dict[str, str | None] = {}
    monkeypatch.setattr(promotion, "project_aliases", lambda _config, wanted: shown.update(wanted))
    return shown


@pytest.fixture
def lake(tmp_path: Path, aliases) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    promotion.start(lake, CONFIG, ONE)
    promotion.shadow(lake, CONFIG, TWO)
    return lake


def decisions(lake: Lake) -> list[tuple[str, str | None, str | None, int | None]]:
    rows = sorted(lake.records("decisions", Decision, flow="triage"), key=lambda row: row.routing_n or 0)
    return [(row.action, row.candidate, row.live, row.routing_n) for row in rows]


def live(lake: Lake) -> str:
    return truth.current(lake.store, "triage").live.version


def test_from_start_to_rollback_every_step_is_a_decision(lake: Lake, aliases):
    assert aliases == {"live": "v1", "candidate": "v2"}
    done = promotion.promote(lake, CONFIG, "v2", reason="gate: promote")
    assert (done.changed, done.notes, done.routing.previous) == (True, [], ONE)
    assert aliases == {"live": "v2", "candidate": None}
    promotion.shadow(lake, CONFIG, THREE)
    promotion.unshadow(lake, CONFIG, "v3", reason="gate: reject")
    back = promotion.rollback(lake, CONFIG, reason="complaints", actor="ann")
    assert (back.routing.live, live(lake), aliases["live"]) == (ONE, "v1", "v1")
    assert decisions(lake) == [
        ("bootstrap", "v1", "v1", 1), ("shadow", "v2", "v1", 2), ("promote", "v2", "v2", 3), ("shadow", "v3", "v2", 4),
        ("unshadow", "v3", "v2", 5), ("rollback", "v2", "v1", 6),
    ]  # fmt: skip


def test_twice_is_once(lake: Lake):
    calls = [
        lambda: promotion.start(lake, CONFIG, THREE),
        lambda: promotion.shadow(lake, CONFIG, TWO),
        lambda: promotion.promote(lake, CONFIG, "v2", reason="r"),
        lambda: promotion.promote(lake, CONFIG, "v2", reason="r"),
        lambda: promotion.unshadow(lake, CONFIG, "v2", reason="r"),
        lambda: promotion.rollback(lake, CONFIG),
        lambda: promotion.rollback(lake, CONFIG),
    ]
    assert [call().changed for call in calls] == [False, False, True, False, False, True, False]
    assert live(lake) == "v1"
    assert len(decisions(lake)) == 4


def test_a_shadow_after_a_rollback_does_not_reopen_the_way_back(lake: Lake):
    promotion.promote(lake, CONFIG, "v2", reason="r")
    promotion.rollback(lake, CONFIG)
    promotion.shadow(lake, CONFIG, THREE)
    assert not promotion.rollback(lake, CONFIG).changed
    promotion.promote(lake, CONFIG, "v3", reason="r")
    assert promotion.rollback(lake, CONFIG).routing.live == ONE


def test_rollback_of_a_named_model_leaves_another_one_alone(lake: Lake):
    promotion.promote(lake, CONFIG, "v2", reason="r")
    assert not promotion.rollback(lake, CONFIG, bad="v7").changed
    assert promotion.rollback(lake, CONFIG, bad="v2").changed


def test_a_candidate_keeps_its_adapter_until_it_is_live(lake: Lake):
    rider = Variant(version="v3", folder="/models/v3", base="v1", adapter="/models/v3/adapter")
    [shadow] = [one for one in promotion.shadow(lake, CONFIG, rider).routing.shadows if one.version == "v3"]
    assert (shadow.base, shadow.adapter) == ("v1", "/models/v3/adapter")
    canary_steps.start(lake, CONFIG, "v3", share=0.05, reason="see it", override=True)
    [canary] = truth.current(lake.store, "triage").canaries
    assert (canary.base, canary.adapter) == ("v1", "/models/v3/adapter")
    assert promotion.promote(lake, CONFIG, "v3", reason="gate: promote").routing.live.adapter is None


def test_only_a_shadow_becomes_live_and_only_a_past_comes_back(lake: Lake, tmp_path: Path):
    with pytest.raises(UsageError, match="no shadow"):
        promotion.promote(lake, CONFIG, "v3", reason="r")
    with pytest.raises(UsageError, match="no earlier live model"):
        promotion.rollback(lake, CONFIG)
    with pytest.raises(UsageError, match="no live model yet"):
        promotion.promote(Lake(str(tmp_path / "empty")), CONFIG, "v2", reason="r")


def test_at_once_is_once(lake: Lake):
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: promotion.promote(lake, CONFIG, "v2", reason="r"), range(4)))
    assert sum(change.changed for change in done) == 1
    assert decisions(lake)[2:] == [("promote", "v2", "v2", 3)]
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: promotion.rollback(lake, CONFIG), range(4)))
    assert sum(change.changed for change in done) == 1
    assert live(lake) == "v1"
    assert decisions(lake)[3:] == [("rollback", "v2", "v1", 4)]


def overtake(monkeypatch: pytest.MonkeyPatch, by) -> None:
    """Let somebody else publish ``by(state)`` just before the next publish."""
    original, left = truth.publish, [by]

    def publish(store, routing):
        if left:
            other = left.pop()
            original(store, other(truth.current(store, "triage")))
        original(store, routing)

    monkeypatch.setattr(truth, "publish", publish)


def test_a_promotion_does_not_undo_the_rollback_that_overtook_it(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    promotion.promote(lake, CONFIG, "v2", reason="r")
    promotion.shadow(lake, CONFIG, THREE)
    overtake(monkeypatch, lambda state: truth.rolled_back(state, actor="ann", reason="fire"))
    with pytest.raises(BusyError, match="somebody else"):
        promotion.promote(lake, CONFIG, "v3", reason="r")
    assert live(lake) == "v1"


def test_a_change_of_shadows_meanwhile_does_not_stop_a_promotion(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    third = truth.Shadow(version="v3", folder="/models/v3")
    overtake(monkeypatch, lambda state: truth.with_shadow(state, third, actor="ann", reason="look"))
    done = promotion.promote(lake, CONFIG, "v2", reason="r")
    assert (done.changed, done.routing.n, [item.version for item in done.routing.shadows]) == (True, 4, ["v3"])
    assert [row[0] for row in decisions(lake)] == ["bootstrap", "shadow", "shadow", "promote"]


def test_projections_are_rebuilt_after_a_kill(lake: Lake, monkeypatch: pytest.MonkeyPatch, aliases):
    with monkeypatch.context() as patched:
        patched.setattr(promotion, "project", lambda *_: [])
        promotion.promote(lake, CONFIG, "v2", reason="r")
        promotion.rollback(lake, CONFIG)
    assert len(decisions(lake)) == 2
    assert promotion.project(lake, CONFIG) == []
    assert promotion.project(lake, CONFIG) == []
    assert [row[0] for row in decisions(lake)] == ["bootstrap", "shadow", "promote", "rollback"]
    assert aliases == {"live": "v1", "candidate": None}


def test_without_mlflow_the_change_holds_and_says_what_is_missing(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    def down(*_):
        raise EnvironmentProblem("MLflow at x cannot be used")

    monkeypatch.setattr(promotion, "project_aliases", down)
    done = promotion.promote(lake, CONFIG, "v2", reason="r")
    assert live(lake) == "v2"
    assert done.notes == ["routing 3 is in force, but MLflow does not show it yet: MLflow at x cannot be used"]
    assert decisions(lake)[-1][0] == "promote"


def test_a_verdict_is_stored_once(lake: Lake):
    reasons = [Reason(name="primary_gain", passed=False, measured=0.1, interval=(0.0, 0.2), threshold=0, text="no")]
    fields = {"turn_id": "t1", "candidate": "v2", "live": "v1", "verdict": "reject", "reasons": reasons, "text": "no"}
    first = promotion.record_verdict(lake, CONFIG, **fields)
    assert promotion.record_verdict(lake, CONFIG, **fields) == first
    stored = [row for row in lake.records("decisions", Decision, flow="triage") if row.action == "gate"]
    assert [(row.verdict, row.reasons, row.turn_id, row.routing_n) for row in stored] == [("reject", reasons, "t1", 2)]


def test_nobody_goes_back_to_a_model_of_erased_data_unless_they_say_so(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    promotion.promote(lake, CONFIG, "v2", reason="gate: promote")
    monkeypatch.setattr(promotion, "tainted_lineage", lambda _lake, _kind, version: {"v1": ["dataset/d1"]}[version])
    with pytest.raises(UsageError, match=r"v1.*erased since \(dataset/d1\).*--accept-erased"):
        promotion.rollback(lake, CONFIG)
    assert live(lake) == "v2"
    assert promotion.rollback(lake, CONFIG, accept_erased=True).routing.live == ONE
