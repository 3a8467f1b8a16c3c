"""The controller on a lake in memory and a clock of its own: from counters to transitions."""

from datetime import UTC, datetime, timedelta

import pytest
from memory_lake import MemoryLake

import flywheel.rollout.promotion as promotion
from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError, LeaseHeldError
from flywheel.rollout import canary_steps
from flywheel.rollout import routing as truth
from flywheel.rollout.history import decisions
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.machine import take
from flywheel.rollout.machine.book import Book
from flywheel.rollout.machine.controller import Controller, read_told
from flywheel.rollout.machine.tally import BUCKETS, CONTENT, Tally, comparison
from flywheel.rollout.routing import Variant

STEP = {"min_minutes": 1, "min_requests": 100, "watch_minutes": 10, "quality": "off", "silence_s": 30}
CONFIG = FlywheelConfig.model_validate({"rollout": {"canary_steps": [0.25, 0.5], "step": STEP}})
TWO = Variant(version="v2", folder="/v2")


class FreeLease:
    """Held by whoever takes it first."""

    def __init__(self):
        self.taken = self.lost = False

    def take(self, owner):
        if self.taken:
            raise LeaseHeldError("held")
        self.taken, self.holder = True, self
        self.owner = owner
        return self

    def check(self):
        if self.lost:
            raise BusyError("taken over")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.taken = False


class World:
    """One gateway replica, or two, and what it would count; a second at a time."""

    def __init__(self, monkeypatch, replicas=1):
        self.now = datetime.now(UTC)
        monkeypatch.setattr(promotion, "project_aliases", lambda _config, wanted: None)
        for module in ("routing", "promotion", "machine.take"):
            monkeypatch.setattr(f"flywheel.rollout.{module}.utcnow", lambda: self.now)
        self.lake, self.lease = MemoryLake(), FreeLease()
        promotion.start(self.lake, CONFIG, Variant(version="v1", folder="/v1"))
        promotion.record_verdict(
            self.lake, CONFIG, turn_id="t", candidate="v2", live="v1", verdict="promote", reasons=[], text="yes"
        )
        take.begin(self.lake, CONFIG, TWO, reason="gate: promote")
        self.controller = self.new_controller()
        self.error = {"v1": 0.0, "v2": 0.0}
        self.totals, self.seq = [{} for _ in range(replicas)], [0] * replicas
        self.ready = ["v1", "v2"]
        self.heard = True

    def new_controller(self):
        return Controller(self.lake, CONFIG, now=lambda: self.now, lease=self.lease)

    def seconds(self, count, rate=8.0):
        """Time passes; what is due is done. The routing after it."""
        for _ in range(count):
            self.now += timedelta(seconds=1)
            for replica in range(len(self.totals)):
                self._count(replica, rate)
                if self.heard:
                    self.controller.report(self.report(replica))
            while self.controller.cycle():
                pass
        return self.routing

    def _count(self, replica, rate):
        state = self.routing
        shares = {canary.version: canary.share for canary in state.canaries}
        live = rate * (1 - sum(shares.values()))
        pairs = {("", state.live.version): live}
        for version, share in shares.items():
            about = comparison(version, share)
            pairs |= {(about, version): rate * share, (about, state.live.version): live}
        for pair, n in pairs.items():
            kept = self.totals[replica].setdefault(pair, Tally())
            kept.add(_tally(round(n), round(n * self.error[pair[1]])))

    def report(self, replica):
        self.seq[replica] += 1
        told = [{"about": about, "version": v, **one.told()} for (about, v), one in self.totals[replica].items()]
        return {"replica": f"r{replica}", "seq": self.seq[replica], "ready": self.ready, "tallies": told}

    @property
    def routing(self):
        return truth.current(self.lake.store, "triage")


def _tally(n, error):
    times = [0] * BUCKETS
    times[10] = n - error
    return Tally(requests=n, error=error, checked=n - error, found=dict.fromkeys(CONTENT, 0), times=times)


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def share(routing):
    return routing.canaries[0].share if routing.canaries else None


def actions(world):
    rows = [row for row in world.lake.records("decisions", None) if row.action != "gate"]
    return [row.action for row in sorted(rows, key=lambda row: row.routing_n)]


def test_a_good_candidate_is_live_after_its_steps_and_stays(world):
    assert share(world.seconds(2)) == 0.25
    assert share(world.seconds(55)) == 0.25
    assert share(world.seconds(10)) == 0.5
    assert world.seconds(65).live.version == "v2"
    assert world.seconds(700).live.version == "v2"
    assert actions(world) == ["bootstrap", "shadow", "canary", "canary", "promote"]


@pytest.mark.parametrize("rate", [4.0, 8.0, 40.0])
def test_a_regression_is_taken_back_within_30_seconds(world, rate):
    world.seconds(40, rate)
    world.error["v2"] = 1.0
    after = world.seconds(30, rate)
    assert (share(after), after.live.version) == (None, "v1")
    assert "errors" in after.reason
    assert after.actor == "rollout"
    assert world.seconds(300).canaries == [], "its verdict is spent"


def test_a_regression_after_the_promotion_is_taken_back_too(world):
    world.seconds(140)
    assert world.routing.live.version == "v2"
    world.seconds(60)
    world.error["v2"] = 0.5
    after = world.seconds(30)
    assert (after.live.version, actions(world)[-1]) == ("v1", "rollback")
    assert world.seconds(60).n == after.n


def test_the_watch_survives_the_controller(world):
    world.seconds(140)
    world.lease.taken = False
    world.controller = world.new_controller()
    world.seconds(10)
    world.error["v2"] = 0.5
    assert world.seconds(30).live.version == "v1"


def test_an_outage_of_both_takes_nobody_back_and_promotes_nobody_wrongly(world):
    world.seconds(30)
    world.error = {"v1": 1.0, "v2": 1.0}
    assert share(world.seconds(20)) == 0.25


def test_silence_holds_and_its_end_goes_on(world):
    world.seconds(20)
    world.heard = False
    world.seconds(120)
    assert [(one.version, one.paused) for one in world.routing.rollouts] == [("v2", "missing")]
    world.heard = True
    after = world.seconds(2)
    assert ([one.paused for one in after.rollouts], share(after)) == ([None], 0.25)
    assert share(world.seconds(65)) == 0.5, "the step begins anew, and none is skipped"


def test_a_successor_begins_the_step_anew_and_skips_none(world):
    world.seconds(50)
    world.lease.taken = False
    world.controller = world.new_controller()
    assert share(world.seconds(55)) == 0.25
    assert share(world.seconds(10)) == 0.5


def test_a_successor_learns_of_failures_that_no_controller_saw(world):
    """By then the gateway's breaker keeps nearly all requests away, so waiting for more of them would take long."""
    world.seconds(20)
    world.lease.taken, world.heard = False, False
    world.error["v2"] = 1.0
    world.seconds(20)
    world.error["v2"], world.heard, world.controller = 0.0, True, world.new_controller()
    assert world.seconds(3).canaries == []


def test_only_the_holder_of_the_lease_acts_and_the_other_is_warm(world):
    second = world.new_controller()
    world.seconds(1)
    first, world.controller = world.controller, second
    assert share(world.seconds(100)) == 0.25
    first.release()
    assert share(world.seconds(1)) == 0.5, "it listened all the time"


def test_who_lost_the_lease_does_nothing(world):
    world.seconds(2)
    world.lease.lost = True
    world.lease.__exit__ = lambda *_: None
    world.error["v2"] = 1.0
    held = world.routing.n
    world.controller._lease = type("Gone", (), {"take": lambda *_: (_ for _ in ()).throw(LeaseHeldError("held"))})()
    world.seconds(60)
    assert world.routing.n == held


def test_a_lake_that_is_away_is_waited_for(world):
    world.seconds(20)
    world.lake.store.broken = True
    world.now += timedelta(seconds=5)
    assert world.controller.cycle() is False
    assert "away" in world.controller.problem
    world.lake.store.broken = False
    world.error["v2"] = 1.0
    assert world.seconds(30).canaries == []


def test_an_engine_without_a_place_is_said_and_harms_nobody(world):
    world.ready = ["v1"]
    world.controller = Controller(
        world.lake, CONFIG, now=lambda: world.now, lease=world.lease, obstacles=lambda: {"v2": "needs 8 GPU"}
    )
    after = world.seconds(610)
    assert [(one.version, one.paused) for one in after.rollouts] == [("v2", "capacity")]
    assert "needs 8 GPU" in after.reason
    [told] = [one for one in read_told(world.lake, "triage")["sights"] if one["version"] == "v2"]
    assert (told["ready"], told["obstacle"]) == (False, "needs 8 GPU")
    world.ready = ["v1", "v2"]
    assert share(world.seconds(3)) == 0.25


def test_a_canary_by_hand_is_guarded_and_never_moved(world):
    take.back(world.lake, CONFIG, "v2", reason="r", actor="ann")
    promotion.shadow(world.lake, CONFIG, TWO)
    canary_steps.start(world.lake, CONFIG, "v2", 0.25, reason="mine", actor="ann")
    assert share(world.seconds(300)) == 0.25
    world.error["v2"] = 1.0
    assert world.seconds(30).canaries == []


def test_erased_data_holds_a_candidate_for_a_person(world, monkeypatch):
    world.seconds(2)
    monkeypatch.setattr(canary_steps, "tainted_lineage", lambda *_: ["model/v2"])
    after = world.seconds(70)
    assert [(one.paused, share(after)) for one in after.rollouts] == [("inconclusive", 0.25)]
    assert "erased" in after.reason


def test_a_live_model_that_cannot_be_taken_back_keeps_no_canary_from_it_and_no_pause(world, monkeypatch):
    world.seconds(140)
    assert world.routing.live.version == "v2"
    promotion.record_verdict(
        world.lake, CONFIG, turn_id="t", candidate="v3", live="v2", verdict="promote", reasons=[], text="yes"
    )
    world.ready, world.error = ["v1", "v2", "v3"], {"v1": 0.0, "v2": 0.0, "v3": 0.0}
    take.begin(world.lake, CONFIG, Variant(version="v3", folder="/v3"), reason="gate: promote")
    assert share(world.seconds(5)) == 0.25
    monkeypatch.setattr(promotion, "tainted_lineage", lambda *_: ["dataset/d"])
    world.error["v2"] = 0.2
    after = world.seconds(100)
    assert (after.live.version, share(after)) == ("v2", 0.25), "nobody moves on meanwhile"
    assert "erased" in world.controller.problem
    world.heard = False
    assert [one.paused for one in world.seconds(60).rollouts] == ["missing"]
    world.heard, world.error["v3"] = True, 1.0
    after = world.seconds(40)
    assert (after.live.version, after.canaries) == ("v2", [])
    assert "erased" in world.controller.problem


def test_two_replicas_count_as_one_and_reports_may_be_lost_or_come_twice(monkeypatch):
    world = World(monkeypatch, replicas=2)
    world.seconds(10)
    told = world.report(0)
    world.controller.report(told)
    world.controller.report(told)
    world.controller.report({"replica": "r9", "seq": "x"})
    world.seconds(1)
    [sight] = [one for one in read_told(world.lake, "triage")["sights"] if one["version"] == "v2"]
    world.seconds(5)
    [sight] = [one for one in read_told(world.lake, "triage")["sights"] if one["version"] == "v2"]
    assert 0 < sight["requests"] <= 2 * 2 * 16


def test_a_book_counts_what_was_added_since_it_listens():
    def report(seq, n):
        return {"replica": "r", "seq": seq, "ready": ["v1"], "tallies": [
            {"about": "", "version": "v1", **_tally(n, 0).told()}]}  # fmt: skip

    now, late, early = datetime.now(UTC), Book(), Book()
    late.take(report(7, 100), now)
    assert sum(one.requests for one in late.since_last().values()) == 0
    late.take(report(8, 130), now)
    late.take(report(6, 90), now)
    assert late.since_last()["", "v1"].requests == 30
    early.take(report(1, 5), now)
    assert early.since_last()["", "v1"].requests == 5
    assert (early.ready("v1", now, timedelta(seconds=9)), early.ready("v2", now, timedelta(seconds=9))) == (True, False)
    assert early.ready("v1", now + timedelta(minutes=9), timedelta(seconds=9)) is None


def test_the_shadow_s_word_goes_with_the_candidate_and_outlives_the_controller(monkeypatch):
    def said(state, source):
        return LiveVerdict(
            flow="triage", candidate="v2", live="v1", source=source, pairs=9, units=9, missing=0, mean=0.0, low=-1.0,
            high=1.0, planned_units=100, state=state, reasons=[],
        )  # fmt: skip

    asks = CONFIG.model_copy(
        update={"rollout": CONFIG.rollout.model_copy(update={
            "step": CONFIG.rollout.step.model_copy(update={"quality": "live"})})}
    )  # fmt: skip
    world, heard = World(monkeypatch), [said("no_worse", "shadow")]

    def controller():
        world.lease.taken = False
        return Controller(world.lake, asks, now=lambda: world.now, lease=world.lease, verdicts=lambda: heard)

    world.controller = controller()
    assert share(world.seconds(5)) == 0.25
    heard[:] = [said("undecided", "canary")]
    assert share(world.seconds(70)) == 0.5
    world.controller = controller()
    assert world.seconds(70).live.version == "v2"


def test_the_shadows_budget_follows_the_verdicts_and_no_candidate_in_a_rollout_leaves_by_them(monkeypatch):
    world = World(monkeypatch)
    for name in ("v3", "v4"):
        promotion.shadow(world.lake, CONFIG, Variant(version=name, folder=f"/{name}"))
    take.pause(world.lake, CONFIG, "v2", reason="stays in the shadow", actor="me")

    def said(name, mean, units=500):
        return LiveVerdict(
            flow="triage", candidate=name, live="v1", source="shadow", pairs=units, units=units, missing=0, mean=mean,
            low=mean - 0.05, high=mean + 0.05, planned_units=900, state="undecided", reasons=[],
        )  # fmt: skip

    words = [said("v2", -0.2), said("v3", 0.1)]
    config = FlywheelConfig.model_validate({"rollout": {"canary_steps": [0.25], "shadow_budget": 0.8, "step": STEP}})
    world.controller = Controller(world.lake, config, verdicts=lambda: words, now=lambda: world.now, lease=world.lease)

    def shares(seconds):
        return {one.version: one.share for one in world.seconds(seconds).shadows}

    assert shares(61) == {"v2": 1.0, "v3": 1.0, "v4": 1.0}, "of v4 nothing is known yet"
    words.append(said("v4", 0.08))
    assert shares(61) == {"v2": 0.02, "v3": 0.4, "v4": 0.4}
    n = world.routing.n
    assert shares(200) == {"v2": 0.02, "v3": 0.4, "v4": 0.4}
    assert world.routing.n == n
    words[2] = said("v4", -0.1)
    assert shares(61) == {"v2": 0.02, "v3": 0.8}
    assert [one.version for one in world.routing.rollouts] == ["v2"]
    assert [row.action for row in decisions(world.lake, "triage")][-2:] == ["shadow", "unshadow"]
