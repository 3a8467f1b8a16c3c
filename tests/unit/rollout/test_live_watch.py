"""The watch over a real lake: follows traffic, goes on after a restart, and gives what a fresh look gives."""

import gzip
import random

import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from live_traffic import START, asked, at, brought, drawn, said

from flywheel.config import CaptureConfig, FlywheelConfig, GatewayConfig, LiveQualityConfig
from flywheel.gateway.shadow.lane import MAX_WAIT_S
from flywheel.lake.tables import Lake
from flywheel.records import Inference, ShadowPair
from flywheel.rollout import canaries, routing
from flywheel.rollout.live import stored
from flywheel.rollout.live.checks import checks
from flywheel.rollout.live.instrument import Instrument
from flywheel.rollout.live.watch import Watch
from flywheel.rollout.routing import Canary, Shadow, Variant

RULES = LiveQualityConfig(late_s=30, settle_s=10, react_s=20, min_propensity=0.25)
WHO = {"actor": "t", "reason": "r"}


def score(pairs):
    """A judge that knows good from bad by a word."""
    return [float("bad" in one.pair.live_answer) - float("bad" in (one.pair.candidate_answer or "")) for one in pairs]


JUDGE = Instrument("judge", "j1", "meaning", "judge", score)


class World:
    """A lake with a shadow (or a canary), a clock, and rows that come in."""

    def __init__(self, folder, *, share=1.0, rules=RULES) -> None:
        self.lake = Lake(str(folder))
        base = FlywheelConfig(flow="triage")
        self.config = base.model_copy(update={"rollout": base.rollout.model_copy(update={"live": rules})})
        self.now, self.batch = 0.0, 0
        first = routing.bootstrap("triage", Variant(version="v1", folder="/v1"), actor="t")
        self.routing = first.model_copy(update={"ts": START})
        routing.publish(self.lake.store, self.routing)
        self.change(routing.with_shadow(self.routing, Shadow(version="v2", folder="/v2", share=share), **WHO))

    def change(self, state) -> None:
        self.routing = state.model_copy(update={"ts": at(self.now)})
        routing.publish(self.lake.store, self.routing)

    def store(self, *, inferences=(), pairs=(), feedback=()) -> None:
        self.batch += 1
        for table, rows in (("inferences", inferences), ("shadow_pairs", pairs), ("feedback", feedback)):
            if rows:
                self.lake.append(table, list(rows), app="test", version=self.batch)

    def watch(self, **how) -> Watch:
        instruments = how.pop("instruments", [checks(), JUDGE])
        return Watch(self.lake, self.config, instruments, clock=lambda: at(self.now), **how)

    def fresh(self, **how):
        """What somebody says who never looked before."""
        self.lake.store.delete([stored.key("triage")])
        return self.watch(**how).update()


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


def traffic(count, start=0, *, every=2.0, bad=0.0, seed=5, sessions=10_000):
    """Requests of sessions of one to three; the candidate's answer is bad in a share."""
    rng = random.Random(seed)
    rows = []
    for n in range(count):
        session = f"s{rng.randrange(sessions)}"
        rows.append(asked(start + n * every, seed * 100_000 + n, session=session, tags={"intent": f"i{n % 3}"}))
    return [(row, brought(row, "bad" if rng.random() < bad else "good", live_answer="good")) for row in rows]


def test_a_verdict_follows_the_traffic(world):
    watch = world.watch()
    (first,) = watch.update()
    assert (first.candidate, first.live, first.source, first.state) == ("v2", "v1", "shadow", "undecided")
    assert (first.units, first.mean, first.planned_units > 0) == (0, None, True)
    rows = traffic(200, bad=0.3)
    for at_ in range(0, 200, 50):
        part = rows[at_ : at_ + 50]
        world.store(inferences=[row for row, _ in part], pairs=[pair for _, pair in part])
        world.now = (part[-1][0].ts - START).total_seconds() + 41
        (found,) = watch.update()
    assert found.units == len({row.session_id for row, _ in rows})
    assert found.pairs <= 200
    assert found.state == "worse"
    assert found.mean == pytest.approx(-0.3, abs=0.1)
    assert {"quality", "missing", "latency", "slice:intent=i0", "slice:tenant=default"} <= {
        reason.name for reason in found.reasons
    }


def test_a_restart_goes_on_and_a_fresh_look_says_the_same(world):
    """Batches of any size, in any order within what is allowed to be late; a new process after each."""
    rng = random.Random(11)
    rows = traffic(150, bad=0.2, sessions=40)
    events = [(one.ts.timestamp() + rng.uniform(0, 25), one) for both in rows for one in both]
    events = [event for event in events if isinstance(event[1], Inference) or rng.random() > 0.05]  # no pair came
    left = sorted(events, key=lambda event: event[0])
    watch = world.watch()
    watch.update()
    while left:
        size = rng.randrange(10, 80)
        part, left = left[:size], left[size:]
        came = [one for _, one in part]
        world.store(
            inferences=[one for one in came if isinstance(one, Inference)],
            pairs=[one for one in came if isinstance(one, ShadowPair)],
        )
        world.now = part[-1][0] - START.timestamp()  # whatever is still to come is at most 25 s old
        if rng.random() < 0.5:
            watch = world.watch()
        watch.update()
    world.now = 5_000
    (found,) = watch.update()
    assert found.units > 30
    assert found.missing > 0
    assert [found] == world.watch().update(), "restarted"
    assert [found] == world.fresh(), "all rows at once"


def test_only_new_rows_are_measured(world):
    seen = []

    def counting(pairs):
        seen.extend(one.pair.inference_id for one in pairs)
        return [0.0] * len(pairs)

    instruments = [Instrument("judge", "j", "meaning", "judge", counting)]
    rows = traffic(8)
    watch = world.watch(instruments=instruments)
    for row, pair in rows:
        world.store(inferences=[row], pairs=[pair])
        watch.update()
    world.watch(instruments=instruments).update()
    assert sorted(seen) == sorted(row.inference_id for row, _ in rows)


def test_a_request_without_a_pair_is_missing_and_only_if_it_was_mirrored(tmp_path):
    world = World(tmp_path, share=0.5)
    rows, answered = [row for row, _ in traffic(200)], asked(-10, 77, session="first")
    others = [
        row.model_copy(update=change)
        for row, change in zip(
            [row for row, _ in traffic(5, seed=6)],
            [
                {"consent": []},
                {"traffic_kind": "canary"},
                {"choices": []},
                {"finish_reason": "error"},
                {"policy_version": 1},
            ],
            strict=True,
        )
    ]
    world.store(inferences=[answered, *rows, *others], pairs=[brought(answered)])
    world.now = 10_000
    (found,) = world.watch().update()
    assert found.state == "worse"
    assert found.missing == found.pairs - 1 == found.units - 1
    assert 70 < found.missing < 130


@pytest.mark.parametrize("told", ["nothing", "unavailable"])
def test_while_its_engine_starts_a_candidate_misses_nothing(world, told):
    rows = traffic(120)
    starting, then = rows[:60], rows[60:]
    first = [] if told == "nothing" else [
        pair.model_copy(update={"candidate_answer": None, "error": "gone", "error_kind": "unavailable"})
        for _, pair in starting
    ]  # fmt: skip
    watch = world.watch()
    world.store(inferences=[row for row, _ in starting], pairs=first)
    world.now = 400
    (found,) = watch.update()
    assert (found.units, found.missing, found.state) == (0, 0, "undecided")
    late = [pair.model_copy(update={"candidate_answer": None, "error": "boom", "error_kind": "engine_error"})
            for _, pair in then[50:]]  # fmt: skip
    pairs = [pair for _, pair in then[:50]]
    world.store(inferences=[row for row, _ in then], pairs=pairs + late)
    world.now = 10_000
    (found,) = watch.update()
    assert (found.pairs, found.missing) == (60, 10)
    assert world.fresh() == [found]


def test_a_slow_live_model_takes_nothing_of_the_candidates_time(world):
    """14 s of the candidate after 28 s of the live model are in time: its copy was sent when the live answer ended."""
    watch = world.watch()
    watch.update()
    first = asked(0, 1, session="first")
    slow = [asked(5, 10 + n, session=f"s{n}", latency_ms=28_000.0) for n in range(20)]
    world.store(inferences=[first, *slow], pairs=[brought(first)])
    world.now = 5 + RULES.late_s + RULES.settle_s + 1
    assert watch.update()[0].units == 1
    world.store(pairs=[brought(row, candidate_latency_ms=14_000.0) for row in slow])
    world.now = 5 + 28 + RULES.late_s + RULES.settle_s + 1
    (found,) = watch.update()
    assert (found.units, found.missing) == (21, 0)
    assert world.fresh() == [found]


def test_as_shipped_the_slowest_pair_that_a_gateway_may_bring_is_in_time():
    slowest_s = MAX_WAIT_S + GatewayConfig().shadow_timeout_s + 5 * CaptureConfig().ingest_interval_s
    assert LiveQualityConfig().late_s >= slowest_s


def test_an_engine_that_only_ever_fails_is_alive(world):
    rows = traffic(60)
    failed = [pair.model_copy(update={"candidate_answer": None, "error": "boom", "error_kind": "engine_error"})
              for _, pair in rows]  # fmt: skip
    world.store(inferences=[row for row, _ in rows], pairs=failed)
    world.now = 10_000
    (found,) = world.watch().update()
    assert (found.missing, found.state) == (60, "worse")


def test_with_a_budget_what_was_dropped_is_not_the_candidates_fault(world):
    shadow = world.routing.shadows[0].model_copy(update={"requests_per_minute": 10.0})
    world.change(routing.with_shadow(world.routing, shadow, **WHO))
    rows = [(row.model_copy(update={"policy_version": 3}), pair.model_copy(update={"policy_version": 3}))
            for row, pair in traffic(200)]  # fmt: skip
    world.store(inferences=[row for row, _ in rows], pairs=[pair for _, pair in rows[:80]])
    world.now = 10_000
    (found,) = world.watch().update()
    assert (found.units, found.missing) == (80, 0)
    assert "budget" in next(reason.text for reason in found.reasons if reason.name == "missing")


def test_failed_answers_are_the_worst_and_timeouts_are_slow(world):
    rows = traffic(200)
    failed = [
        pair.model_copy(update={"candidate_answer": None, "error": "late", "error_kind": "timeout"}) for _, pair in rows
    ]
    world.store(inferences=[row for row, _ in rows], pairs=failed)
    world.now = 10_000
    (found,) = world.watch().update()
    assert found.mean == -1.0
    fails = {reason.name for reason in found.reasons if reason.outcome == "fail"}
    assert {"quality:judge", "quality:checks", "missing", "latency"} <= fails


def test_an_erased_person_leaves_the_counts(world):
    rows = traffic(40)
    world.store(inferences=[row for row, _ in rows], pairs=[pair for _, pair in rows])
    world.now = 10_000
    watch = world.watch()
    assert watch.update()[0].units == 40
    for table in ("inferences", "shadow_pairs"):
        world.lake.delete(table, pc.field("subject") == rows[0][0].subject)
    assert watch.update()[0].units == 39
    assert world.watch().update()[0].units == 39


def test_who_withdrew_is_not_evaluated(world):
    rows = traffic(40)
    world.store(inferences=[row for row, _ in rows], pairs=[pair for _, pair in rows])
    world.now = 10_000
    assert world.watch(withdrawn=lambda: {rows[0][0].subject}).update()[0].units == 39


def test_another_configuration_or_instrument_counts_anew(world):
    rows = traffic(40)
    world.store(inferences=[row for row, _ in rows], pairs=[pair for _, pair in rows])
    world.now = 10_000
    world.watch().update()
    assert stored.load(world.lake.store, "triage", stored.identity(world.config, [checks(), JUDGE])) is not None
    other = Instrument("judge", "j2", "meaning", "judge", score)
    assert stored.load(world.lake.store, "triage", stored.identity(world.config, [checks(), other])) is None
    assert world.watch(instruments=[checks(), other]).update()[0].units == 40


def test_a_slowdown_of_both_is_no_loss_of_the_canary(world):
    """It is given up after the canary's timeout, the live model beside it answers later."""
    world.change(canaries.with_canary(world.routing, Canary(version="v2", folder="/v2", share=0.5), **WHO))
    slow, rows = {"policy_version": 3, "latency_ms": 1e3 * world.config.gateway.canary_timeout_s + 1}, []
    for n in range(200):
        arm = "v2" if n % 2 else "v1"
        row = drawn(n, n, arm, user=f"{n:08x}", share=0.5, failed=arm == "v2")
        rows.append(row.model_copy(update=slow))
    world.store(inferences=rows)
    world.now = 2_000
    (found,) = world.watch().update()
    assert (found.units, found.mean, found.state) == (200, pytest.approx(0.0), "undecided")


def test_a_state_that_cannot_be_read_is_counted_anew(world):
    rows = traffic(20)
    world.store(inferences=[row for row, _ in rows], pairs=[pair for _, pair in rows])
    world.now = 10_000
    (found,) = world.watch().update()
    world.lake.store.put(stored.key("triage"), b"half of a gzip")
    assert world.watch().update() == [found]


def test_a_state_whose_log_is_gone_is_counted_anew(world):
    rows = traffic(40)
    world.store(inferences=[row for row, _ in rows[:20]], pairs=[pair for _, pair in rows[:20]])
    world.now = 10_000
    world.watch().update()
    world.store(inferences=[row for row, _ in rows[20:]], pairs=[pair for _, pair in rows[20:]])
    for table in ("inferences", "shadow_pairs"):
        newest = world.lake.version(table)
        DeltaTable(world.lake.table_uri(table)).create_checkpoint()
        world.lake.store.delete([f"tables/{table}/_delta_log/{n:020d}.json" for n in range(newest)])
        world.lake.store.delete([f"tables/{table}/_delta_log/{newest:020d}.json"])
    assert world.watch().update()[0].units == 40


def test_days_are_counted_one_after_the_other(world):
    """Traffic over three midnights, read at once."""
    rows = [
        both for day in range(3) for both in traffic(30, start=86_400 * day + 43_100, every=10, seed=day + 1, bad=0.1)
    ]
    for at_ in range(0, 90, 45):
        part = rows[at_ : at_ + 45]
        world.store(inferences=[row for row, _ in part], pairs=[pair for _, pair in part])
    world.now = 4 * 86_400
    (found,) = world.watch().update()
    assert (found.pairs, found.missing) == (90, 0)
    assert len(set(world.lake.read("shadow_pairs")["date"].to_pylist())) > 1


def test_nothing_of_anybody_is_in_the_state(world):
    rows = traffic(10)
    world.store(inferences=[row for row, _ in rows], pairs=[pair for _, pair in rows])
    world.now = 5  # all sessions are open
    world.watch().update()
    text = gzip.decompress(world.lake.store.get(stored.key("triage"))).decode()
    assert "Where is my order" not in text
    assert all(row.subject not in text and f'"{row.session_id}"' not in text for row, _ in rows)


def test_an_instrument_that_fails_loses_no_row(world):
    fails = [True]

    def shaky(pairs):
        if fails.pop() if fails else False:
            raise RuntimeError("the engine is gone")
        return score(pairs)

    watch = world.watch(instruments=[checks(), Instrument("judge", "j1", "meaning", "judge", shaky)])
    watch.update()
    rows = traffic(30)
    world.store(inferences=[row for row, _ in rows], pairs=[pair for _, pair in rows])
    world.now = 10_000
    with pytest.raises(RuntimeError):
        watch.update()
    assert watch.update()[0].units == 30


def test_several_candidates_and_one_that_leaves(world):
    world.change(routing.with_shadow(world.routing, Shadow(version="v3", folder="/v3"), **WHO))
    rows = [(row.model_copy(update={"policy_version": 3}), pair.model_copy(update={"policy_version": 3}))
            for row, pair in traffic(120, bad=0.5)]  # fmt: skip
    good = [pair.model_copy(update={"candidate": "v3", "candidate_answer": "good"}) for _, pair in rows]
    world.store(inferences=[row for row, _ in rows], pairs=[pair for _, pair in rows] + good)
    world.now = 10_000
    watch = world.watch()
    found = {one.candidate: one for one in watch.update()}
    assert found["v2"].mean < -0.3
    assert found["v3"].mean == 0.0
    assert next(iter(watch.strengths().strengths)) in {"v1", "v3"}
    world.change(routing.without_shadow(world.routing, "v2", **WHO))
    assert [one.candidate for one in watch.update()] == ["v3"]


def test_nobody_to_compare_is_no_verdict(tmp_path):
    world = World(tmp_path)
    world.change(routing.without_shadow(world.routing, "v2", **WHO))
    world.store(inferences=[row for row, _ in traffic(3)])
    assert world.watch().update() == []
    assert Watch(Lake(str(tmp_path / "empty")), world.config, []).update() == []


def test_a_shadow_that_comes_back_begins_anew(world):
    rows = traffic(20)
    world.store(inferences=[row for row, _ in rows], pairs=[pair for _, pair in rows])
    world.now = 1_000
    watch = world.watch()
    assert watch.update()[0].units == 20
    world.change(routing.without_shadow(world.routing, "v2", **WHO))
    watch.update()
    world.change(routing.with_shadow(world.routing, Shadow(version="v2", folder="/v2"), **WHO))
    assert watch.update()[0].units == 0
    assert world.fresh()[0].units == 0


def test_a_canary_from_rows_and_reactions(world):
    state = canaries.with_canary(world.routing, Canary(version="v2", folder="/v2", share=0.25), **WHO)
    world.change(state)
    rng = random.Random(2)
    watch = world.watch()
    for batch in range(4):
        rows = []
        for n in range(batch * 100, batch * 100 + 100):
            arm = "v2" if rng.random() < 0.25 else "v1"
            row = drawn(n * 2, n, arm, user=f"{n:08x}").model_copy(update={"policy_version": 3})
            rows.append(row)
        down = [said(row, "thumbs", -1) for row in rows if row.model_version == "v2" and rng.random() < 0.8]
        ranked = drawn(batch * 200, 9_000 + batch, "v2", user=f"a{batch:07x}")
        ranked = ranked.model_copy(update={"policy_version": 3, "list_log_propensity": -1.5, "choices": []})
        world.store(inferences=[*rows, ranked], feedback=down)
        world.now = batch * 200 + 210
        watch.update()
    world.now = 2_000
    (found,) = watch.update()
    assert found.source == "canary"
    assert found.units == 400
    assert found.state == "worse"
    assert found.mean == pytest.approx(-0.8, abs=0.2)
    assert world.fresh() == [found]
