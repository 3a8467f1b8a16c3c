"""The rollout under everything at once: gates, people, two controllers, bad candidates, silence, and a crash anywhere.

Checked after every move, on the objects themselves and not on what the code says of them: one live model, no promotion
without a passed gate, no step skipped, no change of what was written, a way back, and projections that can be rebuilt.
"""

import contextlib
import os
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from memory_lake import Crash, Fate, MemoryLake

from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError, EnvironmentProblem, LeaseHeldError, UsageError
from flywheel.records import Reason
from flywheel.rollout import canaries, canary_steps, history, promotion
from flywheel.rollout import routing as truth
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.machine import take
from flywheel.rollout.machine.controller import Controller
from flywheel.rollout.machine.sight import Sight
from flywheel.rollout.routing import Variant

LONG = bool(os.environ.get("FLYWHEEL_LONG"))
STEPS = [0.05, 0.25, 0.5]
CONFIG = FlywheelConfig.model_validate(
    {"rollout": {"canary_steps": STEPS, "step": {"min_minutes": 10, "max_minutes": 120, "watch_minutes": 30}}}
)
VERSIONS = ["v2", "v3", "v4"]
LIVES = ["v1", *VERSIONS]
ANY = st.sampled_from(VERSIONS)
DEATH = st.sampled_from([0] * 10 + list(range(1, 16)))
"""The write at which the process dies; 0: it lives."""
MINUTES = st.lists(st.sampled_from([0.5, 11, 11, 11, 11, 45, 130]), min_size=1, max_size=8)
"""Between the looks of a controller."""
WHY = {"reason": "because", "actor": "ann"}
CLOCKED = [
    "flywheel.rollout.routing.utcnow",
    "flywheel.rollout.promotion.utcnow",
    "flywheel.rollout.machine.take.utcnow",
]


class World:
    """What is true of the models, and what the controllers get to see of it."""

    def __init__(self):
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.aliases = {}
        self.mlflow = True
        self.well()

    def well(self):
        self.bad = dict.fromkeys(LIVES, False)
        self.quality = dict.fromkeys(LIVES, "no_worse")
        self.ready = dict.fromkeys(LIVES, True)
        self.enough = True
        self.silent_since = None

    def clock(self):
        self.now += timedelta(microseconds=1)  # decisions have an order
        return self.now

    def fine(self, version, share):
        """Nothing that the machine can see speaks against giving this one so many users."""
        heard = self.silent_since is None or self.now - self.silent_since <= timedelta(seconds=60)
        clear = self.quality[version] in (
            {"better", "no_worse"} if share == 1.0 else {"better", "no_worse", "undecided"}
        )
        return heard and clear and not self.bad[version] and self.ready[version] and (self.enough or share == STEPS[0])


class Eyes:
    """Stands in for ``Look``: its numbers are tested elsewhere."""

    def __init__(self, world):
        self._world, self.book, self.rates = world, self, {}
        self._stages = {}
        self.comparing = True

    def take(self, report, now):
        pass

    def count(self, state, now):
        pass

    def sights(self, state, verdicts, obstacles, now):
        live = state.live
        found = {one.version: self._sight(one.version, one.since, live.version) for one in state.candidates}
        found[live.version] = self._sight(live.version, live.since, live.previous or "")
        return found

    def _sight(self, version, since, against):
        world, quality = self._world, self._world.quality[version]
        if self._stages.get(version, (None,))[0] != since:
            self._stages[version] = (since, world.now)
        guard = Reason(name="error", passed=not world.bad[version], text="errors")
        verdict = LiveVerdict(
            flow="triage", candidate=version, live=against, source="canary", pairs=9, units=9, missing=0, mean=0.0,
            low=-1.0, high=1.0, planned_units=100, state=quality, reasons=[],
        )  # fmt: skip
        return Sight(
            version=version,
            reported=world.silent_since or world.now,
            watched=self._stages[version][1],
            requests=1_000 if world.enough else 3,
            guards=[guard],
            ready=world.ready[version],
            quality=verdict if against else None,
        )


class OneMayAct:
    """A lease among the controllers of this process."""

    def __init__(self):
        self.holder = None

    def of(self, name):
        return _Place(self, name)


class _Place:
    def __init__(self, lease, name):
        self._lease, self.name = lease, name
        self.holder = self
        self.owner = name

    def take(self, owner):
        if self._lease.holder not in {None, self.name}:
            raise LeaseHeldError("held")
        self._lease.holder = self.name
        return self

    def check(self):
        if self._lease.holder != self.name:
            raise BusyError("taken over")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._lease.holder == self.name:
            self._lease.holder = None


class RolloutMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world, self.fate, self.lease, self.count = World(), Fate(), OneMayAct(), 0
        self.lake = MemoryLake(self.fate)
        self._patches = [patch(name, self.world.clock) for name in CLOCKED]
        self._patches.append(patch.object(promotion, "project_aliases", self._alias))
        for one in self._patches:
            one.start()
        self.controllers = [self._controller(), self._controller()]
        self.seen_objects, self.seen_rows = {}, []
        self.turns = 0

    def teardown(self):
        self._rebuilt()
        for one in self._patches:
            one.stop()

    def _alias(self, config, wanted):
        def effect():
            if not self.world.mlflow:
                raise EnvironmentProblem("MLflow is away")
            self.world.aliases.update(wanted)
            return True

        self.fate.write(effect)

    def _controller(self):
        self.count += 1
        lease = self.lease.of(f"controller-{self.count}")
        return Controller(self.lake, CONFIG, now=self.world.clock, look=Eyes(self.world), lease=lease)

    @initialize()
    def first(self):
        promotion.start(self.lake, CONFIG, Variant(version="v1", folder="/v1"))

    # what the flow does

    @rule(version=ANY, said=st.sampled_from(["promote", "promote", "promote", "reject", "inconclusive"]))
    def judged(self, version, said):
        now = self._now()
        if version == now.live.version:
            return
        self.turns += 1
        promotion.record_verdict(
            self.lake, CONFIG, turn_id=f"t{self.turns}", candidate=version, live=now.live.version, verdict=said,
            reasons=[], text=said,
        )  # fmt: skip

    @rule(version=ANY, judge=st.sampled_from([True, True, True, False]), crash=DEATH, after=st.booleans())
    def handed_over(self, version, judge, crash, after):
        if judge:
            self.judged(version, "promote")
        self._dying(crash, after, lambda: take.begin(self.lake, CONFIG, _variant(version), reason="gate: promote"))

    @rule(version=ANY)
    def mirrored(self, version):
        if version != self._now().live.version:
            promotion.shadow(self.lake, CONFIG, _variant(version))

    # what people do

    @rule(
        what=st.sampled_from(["pause", "resume", "approve", "stop", "unshadow", "canary"]), version=ANY,
        crash=DEATH, after=st.booleans(),
    )  # fmt: skip
    def a_person_acts(self, what, version, crash, after):
        self._dying(crash, after, lambda: self._by_hand(what, version))

    @rule(crash=DEATH, after=st.booleans())
    def a_person_goes_back(self, crash, after):
        self._dying(crash, after, lambda: promotion.rollback(self.lake, CONFIG, **WHY))

    def _by_hand(self, what, version):
        if what == "stop":
            canary_steps.stop(self.lake, CONFIG, version, **WHY)
        elif what == "unshadow":
            promotion.unshadow(self.lake, CONFIG, version, **WHY)
        elif what == "canary":
            canary_steps.start(self.lake, CONFIG, version, 0.1, override=True, **WHY)
        else:
            getattr(take, what)(self.lake, CONFIG, version, **WHY)

    # what happens

    @rule(
        what=st.sampled_from(["bad", "quality", "ready", "enough", "silent", "mlflow", "all well"]), version=ANY,
        said=st.sampled_from(["worse", "undecided"]), live=st.booleans(),
    )  # fmt: skip
    def something_changes(self, what, version, said, live):
        """One thing turns into its contrary, or all is well again."""
        world = self.world
        if what == "bad":
            version = self._now().live.version if live else version
            world.bad[version] = not world.bad[version]
        elif what == "quality":
            world.quality[version] = said if world.quality[version] == "no_worse" else "no_worse"
        elif what == "ready":
            world.ready[version] = not world.ready[version]
        elif what == "silent":
            world.silent_since = None if world.silent_since else world.now
        elif what == "all well":
            world.well()
        else:
            setattr(world, what, not getattr(world, what))

    # what the controllers do

    @rule(
        which=st.integers(0, 1), crash=DEATH, after=st.booleans(),
        minutes=MINUTES,
    )  # fmt: skip
    def looks(self, which, crash, after, minutes):
        def cycles():
            for passing in minutes:
                self.world.now += timedelta(minutes=passing)
                self._watched_cycle(which)

        if self._dying(crash, after, cycles):
            died = self.controllers[which]
            if self.lease.holder == died._lease.name:
                self.lease.holder = None  # expired
            self.controllers[which] = self._controller()

    @rule(which=st.integers(0, 1), minutes=MINUTES)
    def looks_on(self, which, minutes):
        self.looks(which, 0, False, minutes)

    @rule(
        which=st.integers(0, 1),
        at=st.integers(1, 3),
        what=st.sampled_from(["pause", "stop", "back", "other"]),
        version=ANY,
    )
    def is_overtaken(self, which, at, what, version):
        def first():
            self.fate.clear()
            if what == "back":
                promotion.rollback(self.lake, CONFIG, **WHY)
            elif what == "other":
                self.lease.holder = self.controllers[1 - which]._lease.name
                self.controllers[1 - which].cycle()
            else:
                self._quietly(lambda: self._by_hand(what, version))

        self.fate.meets_at(at, lambda: self._quietly(first))
        self._watched_cycle(which)
        self.fate.clear()

    def _watched_cycle(self, which):
        before = self._now()
        self.controllers[which].cycle()
        now = self._now()
        for n in range(before.n + 1, now.n + 1):
            self._fair(truth.read(self.lake.store, "triage", n - 1), truth.read(self.lake.store, "triage", n))

    def _fair(self, before, state):
        """A step of the machine up was due: in order, not while held, and with nothing known against it."""
        if state.actor != take.ACTOR:
            return
        old, new = _shares(before), _shares(state)
        for version in [*new, state.live.version]:
            share = 1.0 if version == state.live.version else new[version]
            if version == before.live.version or share <= old.get(version, 0.0):
                continue
            if state.live.version != before.live.version and (state.decision_id or "").startswith("rollback"):
                continue
            ladder = [0.0, *STEPS, 1.0]
            if old.get(version, 0.0) in ladder:
                assert ladder.index(share) == ladder.index(old.get(version, 0.0)) + 1, "a step was skipped"
            assert self.world.fine(version, share), "moved on although something was missing or wrong"
            assert _paused(before, version) is None, "moved on although it was held"

    # what must hold, always

    @invariant()
    def what_was_written_stays(self):
        routing = {key: data for key, data in self.lake.store.objects.items() if key.startswith("routing/")}
        assert self.seen_objects.items() <= routing.items()
        numbers = sorted(int(key.rpartition("/")[2].removesuffix(".json")) for key in routing)
        assert numbers == list(range(1, len(numbers) + 1))
        rows = self.lake.tables.get("decisions", [])
        assert rows[: len(self.seen_rows)] == self.seen_rows
        assert len({row.decision_id for row in rows}) == len(rows)
        new = [n for n in numbers if truth.key("triage", n) not in self.seen_objects]
        self.seen_objects, self.seen_rows = routing, list(rows)
        for n in new:
            if n > 1:
                self._gated(self._read(n - 1), self._read(n))

    @invariant()
    def one_live_model_and_a_way_back(self):
        now = self._now()
        if now is None:
            return
        assert now.live.version not in {one.version for one in now.variants()[1:]}
        for canary in now.canaries:
            assert canaries.without_canary(now, canary.version, actor="t", reason="r").live == now.live
        if now.previous is not None:
            back = truth.rolled_back(now, actor="t", reason="r")
            assert (back.live, back.canaries) == (now.previous, [])

    def _gated(self, before, state):
        """No promotion, and no user more, without a passed gate."""
        order = self.lake.store.order
        end = order.index(("object", truth.key("triage", state.n)))
        promoted = state.live.version if state.live.version != before.live.version else None
        if promoted is not None and not (state.decision_id or "").startswith("rollback-"):
            assert self._passed(promoted, before.live.version, end), f"{promoted} was promoted without a passed gate"
        for version, share in _shares(state).items():
            more = share > _shares(before).get(version, 0.0) and state.live.version == before.live.version
            if more and not state.reason.startswith(canary_steps.OVERRIDDEN):
                assert self._passed(version, before.live.version, end), f"{version} grew without a passed gate"

    def _passed(self, version, live, end):
        """By the order of writes alone: its last verdict promotes it over ``live``, and it was not taken back since."""
        rows = {row.decision_id: row for row in self.lake.tables.get("decisions", [])}
        passed = False
        for kind, name in self.lake.store.order[:end]:
            if kind == "row" and rows[name].action == "gate" and rows[name].candidate == version:
                passed = rows[name].verdict == "promote" if rows[name].live == live else passed
            if kind == "object" and name.startswith("routing/"):
                n = int(name.rpartition("/")[2].removesuffix(".json"))
                if n > 1 and _taken_back(self._read(n - 1), self._read(n), version):
                    passed = False
        return passed

    def _rebuilt(self):
        """The ledger and the aliases follow from the routing: whatever was lost is made good, and nothing twice."""
        now = self._now()
        if now is None:
            return
        self.fate.clear()
        away, self.world.mlflow = not self.world.mlflow, True
        promotion.project(self.lake, CONFIG)
        rows = [row for row in self.lake.tables["decisions"] if row.routing_n is not None and row.action != "gate"]
        assert sorted(row.routing_n for row in rows) == list(range(1, now.n + 1))
        assert self.world.aliases["live"] == now.live.version
        empty = self.lake.copy()
        empty.tables, empty._apps = {}, {}
        promotion.project(empty, CONFIG)
        assert sorted(empty.tables["decisions"], key=lambda row: row.routing_n) == sorted(
            rows, key=lambda row: row.routing_n
        )
        self.world.mlflow = not away
        self._back_again(now)

    def _back_again(self, now):
        """A rollback takes a promoted model away, from right here."""
        other = self.lake.copy()
        done = promotion.rollback(other, CONFIG, **WHY) if now.previous is not None else None
        if done is not None and done.changed:
            assert done.routing.live == now.previous
        for canary in now.canaries:
            assert promotion.rollback(self.lake.copy(), CONFIG, bad=canary.version, **WHY).changed

    # helpers

    def _now(self):
        return truth.current(self.lake.store, "triage")

    def _read(self, n):
        return truth.read(self.lake.store, "triage", n)

    def _dying(self, crash, after, action):
        """Whether the process died on the way; crash 0: it does not."""
        if crash:
            self.fate.dies_at(crash, after=after)
        try:
            self._quietly(action)
        except Crash:
            return True
        finally:
            self.fate.clear()
        return False

    @staticmethod
    def _quietly(action):
        """People are told no; that is part of the game."""
        with contextlib.suppress(UsageError, BusyError):
            action()


def _variant(version):
    return Variant(version=version, folder=f"/{version}")


def _shares(state):
    return {canary.version: canary.share for canary in state.canaries}


def _paused(state, version):
    return next((one.paused for one in state.rollouts if one.version == version), None)


def _taken_back(before, state, version):
    """Users met it and it was taken back: as a canary, or by a rollback."""
    lost = version in _shares(before) and version not in _shares(state) and state.live.version != version
    gone = {one.version for one in before.shadows} - {one.version for one in state.variants()}
    if version in gone and state.actor == take.ACTOR and state.live == before.live:
        return True
    # a rollback ends every canary, and only the live model's verdict with it
    if state.live.version != before.live.version:
        return before.live.version == version and (state.decision_id or "").startswith("rollback-")
    return lost


settings.register_profile(
    "rollout",
    max_examples=10_000 if LONG else 60,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRollout = RolloutMachine.TestCase
TestRollout.settings = settings.get_profile("rollout")
assert history.passed, "the rule under test"
