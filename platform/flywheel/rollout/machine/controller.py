"""The rollout controller: hears gateways' counters, looks, and takes the step that is due, again and again.

It keeps nothing that a successor needs: the routing says where everybody stands, and a successor counts anew. Any
number may run: a lease lets one act, the others listen and are warm when it dies; and if two ever acted, the routing
object that a step follows from exists once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from flywheel.config import FlywheelConfig
from flywheel.errors import BusyError, LakeError, LeaseHeldError, UsageError
from flywheel.lake.lease import Held, Lease
from flywheel.lake.tables import Lake
from flywheel.records import Decision, utcnow
from flywheel.rollout import history, promotion
from flywheel.rollout import routing as truth
from flywheel.rollout.live.result import LiveVerdict
from flywheel.rollout.machine import take
from flywheel.rollout.machine.look import Look
from flywheel.rollout.machine.rules import due_steps, waits_for
from flywheel.rollout.machine.shadow_words import ShadowWords
from flywheel.rollout.machine.sight import Sight, Step
from flywheel.rollout.machine.state import RolloutState, state_of
from flywheel.rollout.machine.tally import Tally
from flywheel.rollout.routing import Routing

log = logging.getLogger(__name__)

EXPIRY_S: Final = 15.0
BEAT_S: Final = 5.0
"""A controller that is killed is followed within ``EXPIRY_S``; clocks of two machines may differ by 10 s."""
ROWS_S: Final = 5.0
REPAIR_S: Final = 15.0
TELL_S: Final = 5.0
SHARES_S: Final = 60.0
INBOX: Final = 10_000


class Controller:
    """One flow's. ``report`` may be called from any thread; ``cycle`` from one.

    Args:
        lake: the lake.
        config: the flow.
        verdicts: the newest word of the comparison on live traffic; must not wait.
        obstacles: why engines do not run, by version, where that is known; must not wait.
        now: the time.
        look: what turns reports into sights.
        lease: who may act; default: one for the flow.
    """

    def __init__(
        self,
        lake: Lake,
        config: FlywheelConfig,
        *,
        verdicts: Callable[[], Sequence[LiveVerdict]] = tuple,
        obstacles: Callable[[], Mapping[str, str]] = dict,
        now: Callable[[], datetime] = utcnow,
        look: Look | None = None,
        lease: Lease | None = None,
    ) -> None:
        self._lake, self._config, self._now = lake, config, now
        self._verdicts, self._obstacles = verdicts, obstacles
        self._inbox: queue.Queue[tuple[Mapping[str, Any], datetime]] = queue.Queue(INBOX)
        self._look = look or Look(config.rollout, self._rates_before)
        self._shadows = ShadowWords(lake.store, config.flow)
        self._past: dict[int, Routing] = {}
        self._routing: Routing | None = None
        self._rows: list[Decision] | None = None
        self._rows_version: int | None = None
        self._repaired: int | None = None
        self._done: dict[str, datetime] = {}
        self._lease = lease or Lease(lake.store, f"{config.flow}/rollout", expiry_s=EXPIRY_S, beat_s=BEAT_S)
        self._held: Held | None = None
        self.problem: str | None = None
        self.comparing = False
        """Whether answers are compared now: there is a canary, or a promoted model in its watch."""

    def report(self, told: Mapping[str, Any]) -> None:
        """A gateway's counters. Never waits: what does not fit is in its next report."""
        with contextlib.suppress(queue.Full):
            self._inbox.put_nowait((told, self._now()))

    def cycle(self) -> bool:
        """One look; whether a step was taken, so that the next one follows at once. A lake away is waited for."""
        self._hear()
        try:
            return self._cycle()
        except (LakeError, BusyError) as error:
            self._say(str(error))
            return False

    def release(self) -> None:
        """Let go of the lease: a successor need not wait for its expiry."""
        if self._held is not None:
            self._held.__exit__(None, None, None)
            self._held = None

    def _cycle(self) -> bool:
        state = self._state()
        if state is None:
            return False
        now = self._now()
        self._look.count(state, now)
        sights = self._look.sights(
            state, self._shadows.with_those_before(self._verdicts(), state), self._obstacles(), now
        )
        self.comparing = self._look.comparing
        if not self._leads():
            return False
        due = due_steps(state, sights, self._config.rollout, now)
        taken = self._act(due) if due else self._allocate()
        self._tell(state, sights, now)
        self._keep_rates()
        self._repair()  # last: it talks to MLflow, which may not answer for long
        return taken

    def _hear(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._look.book.take(*self._inbox.get_nowait())

    def _state(self) -> RolloutState | None:
        store, flow = self._lake.store, self._config.flow
        found = truth.newer(store, flow, self._routing.n if self._routing else 0)
        if found is not None:
            self._routing, self._past[found.n] = found, found
        if self._routing is None:
            return None
        if self._rows is None or found is not None or self._due("rows", ROWS_S):
            self._read_decisions()
        if self._rows is None:
            return None
        return state_of(self._routing, self._rows, self._read)

    def _read_decisions(self) -> None:
        """Where they cannot be read, those of before hold: nobody is moved on by them, for that they are read again."""
        try:
            version = self._lake.version("decisions")
            if self._rows is None or version != self._rows_version:
                self._rows, self._rows_version = history.decisions(self._lake, self._config.flow), version
        except LakeError as error:
            self._say(str(error))

    def _read(self, n: int) -> Routing:
        if n not in self._past:
            self._past[n] = truth.read(self._lake.store, self._config.flow, n)
        return self._past[n]

    def _leads(self) -> bool:
        """Whether this controller may act now."""
        if self._held is not None:
            try:
                self._held.check()
            except BusyError:
                self.release()
        if self._held is None:
            try:
                self._held = self._lease.take(f"{socket.gethostname()} (process {os.getpid()})").__enter__()
            except LeaseHeldError:
                return False
        return True

    def _act(self, due: Sequence[Step]) -> bool:
        """Take the most urgent step that may be taken; whether anything changed.

        That a model cannot be taken back is said each time, and keeps nobody else from being taken back or held.
        """
        refused = False
        for step in due:
            try:
                change = take.take(self._lake, self._config, step)
            except UsageError as error:
                self._say(str(error))
                if step.action in {"canary", "promote"}:
                    return self._give_up(step, str(error))
                refused = True
                continue
            if not refused:
                self.problem = None
            log.warning("rollout: %s %s: %s", step.action, step.version, step.reason)
            return change.changed
        return False

    def _allocate(self) -> bool:
        if self._routing is None or not self._due("shares", SHARES_S):
            return False
        return take.allocate(self._lake, self._config, self._routing, self._verdicts())

    def _give_up(self, step: Step, why: str) -> bool:
        """A candidate that may not go on waits for a person."""
        pause = step.model_copy(update={"action": "pause", "by": "inconclusive", "reason": why, "share": None})
        return take.take(self._lake, self._config, pause).changed

    def _repair(self) -> None:
        """Decisions and aliases that somebody who was killed, or found MLflow away, did not write."""
        n = self._routing.n if self._routing else 0
        if n != self._repaired and self._due("repair", REPAIR_S):
            missing = promotion.project(self._lake, self._config)
            self._repaired = None if missing else n

    def _keep_rates(self) -> None:
        """How the live model does, where a successor finds it."""
        if self._routing is not None and self._due("rates", 6 * TELL_S):
            version = self._routing.live.version
            if version in self._look.rates:
                told = json.dumps(self._look.rates[version].told()).encode()
                self._lake.store.put(_rates_key(self._config.flow, version), told)

    def _rates_before(self, version: str) -> Tally | None:
        data = self._lake.store.get_or_none(_rates_key(self._config.flow, version))
        try:
            return None if data is None else Tally.read(json.loads(data))
        except ValueError:
            return None  # another version of this program counted otherwise

    def _tell(self, state: RolloutState, sights: Mapping[str, Sight], now: datetime) -> None:
        """For people: what is seen. A projection; nobody decides by it."""
        if not self._due("tell", TELL_S):
            return
        policy = self._config.rollout
        waits = {
            one.version: waits_for(state, one, sights[one.version], policy, now)
            for one in state.candidates
            if one.enrolled and one.paused is None
        }
        told = {
            "at": now.isoformat(),
            "routing": state.n,
            "owner": self._held.holder.owner if self._held else None,
            "problem": self.problem,
            "waits": waits,
            "sights": [sight.model_dump(mode="json") for sight in sights.values()],
        }
        with contextlib.suppress(LakeError):
            self._lake.store.put(told_key(self._config.flow), json.dumps(told).encode())

    def _due(self, what: str, every_s: float) -> bool:
        now = self._now()
        last = self._done.get(what)
        if last is not None and now - last < timedelta(seconds=every_s):
            return False
        self._done[what] = now
        return True

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("rollout: %s", problem)
        self.problem = problem


def told_key(flow: str) -> str:
    """Where the controller says what it sees."""
    return f"rollouts/{flow}/state.json"


def read_told(lake: Lake, flow: str) -> dict[str, Any] | None:
    """What the controller said last; None before it ever ran."""
    data = lake.store.get_or_none(told_key(flow))
    return None if data is None else json.loads(data)


def _rates_key(flow: str, version: str) -> str:
    return f"rollouts/{flow}/rates/{version}.json"
