"""The engine controller: makes the running engines equal to what the routing truth names.

It starts what is missing at once, and stops an engine only when no gateway can still be using it: its version
left the routing longer ago than every gateway needs to notice and to finish its requests, and the live model's
engine is running. A candidate's need not be: it may wait for the very room that a leftover holds. An engine that
never was in the routing belongs to whoever started it (an evaluation) and is left alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.errors import LakeError
from flywheel.inference.engines import APP_PREFIX
from flywheel.records import utcnow
from flywheel.rollout import routing as truth
from flywheel.rollout.riders import placed
from flywheel.rollout.routing import Routing, Store, Variant

log = logging.getLogger(__name__)

ABSENT = {"NOT_STARTED", "DEPLOY_FAILED"}
RUNNING = "RUNNING"
FIRST_RETRY_S, LAST_RETRY_S = 10.0, 300.0


@dataclass(frozen=True)
class Plan:
    """What to do now."""

    start: list[Variant]
    stop: list[str]


@dataclass
class Memory:
    """What the controller remembers between looks; times are seconds of a monotonic clock."""

    routed: set[str] = field(default_factory=set)
    """Versions that some routing named, now or earlier."""
    last_named: dict[str, float] = field(default_factory=dict)
    next_try: dict[str, float] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)

    def note(self, routing: Routing, now: float) -> None:
        """The routing in force at ``now``."""
        names = {variant.version for variant in routing.variants()}
        self.routed |= names
        self.last_named.update(dict.fromkeys(names, now))

    def tried(self, version: str, now: float) -> None:
        """A start was asked for: wait longer each time before the next one."""
        self.tries[version] = self.tries.get(version, 0) + 1
        pause = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (self.tries[version] - 1))
        self.next_try[version] = now + pause


def grace_s(config: FlywheelConfig) -> float:
    """Seconds after which no gateway can be using an engine that left the routing."""
    return 2 * config.gateway.routing_poll_s + config.engine.request_timeout_s + 5


def plan(
    routing: Routing,
    statuses: Mapping[str, str],
    memory: Memory,
    now: float,
    grace: float,
    *,
    lora: bool = False,
    keep: str | None = None,
) -> Plan:
    """What brings the running engines towards ``routing``. Pure but for noting in ``memory`` what it saw first.

    Args:
        routing: what is in force.
        statuses: Serve's status by version, of every engine application.
        memory: see ``Memory``; ``note`` was called with this routing.
        now: monotonic seconds.
        grace: see ``grace_s``.
        lora: candidates with an adapter ride on the engine of their base.
        keep: a version that left the routing and may be needed again at once; its engine stays if it runs.
    """
    wanted = {variant.version: variant for variant in placed(routing, lora=lora).engines}
    start = [
        variant
        for version, variant in wanted.items()
        if statuses.get(version, "NOT_STARTED") in ABSENT and now >= memory.next_try.get(version, now)
    ]
    if statuses.get(routing.live.version) != RUNNING:
        return Plan(start, [])  # some gateway may still answer with the live model before; nobody needs a candidate so
    needed = wanted.keys() | {keep}
    leftover = [version for version in statuses if version not in needed and version in memory.routed]
    stop = [version for version in leftover if now - memory.last_named.setdefault(version, now) > grace]
    return Plan(start, [version for version in stop if statuses[version] != "DELETING"])


class Controller:
    """Looks at the truth, makes a plan, carries it out. Called in a loop by its supervised deployment."""

    def __init__(
        self,
        store: Store,
        config: FlywheelConfig,
        *,
        statuses: Callable[[], dict[str, str]],
        start: Callable[[Variant], None],
        stop: Callable[[str], bool],
    ) -> None:
        self._store, self._config = store, config
        self._statuses, self._start, self._stop = statuses, start, stop
        self._routing: Routing | None = None
        self._live_since = utcnow()
        self.memory = Memory()
        self.errors: dict[str, str] = {}

    def cycle(self) -> bool:
        """One look. Always False: there is never a reason to look again at once."""
        self._look()
        if self._routing is None:
            return False
        now = time.monotonic()
        self.memory.note(self._routing, now)
        seen = {name.removeprefix(APP_PREFIX): status for name, status in self._statuses().items()}
        lora = self._config.engine.enable_lora
        keep = self._previous_in_watch(self._routing)
        todo = plan(self._routing, seen, self.memory, now, grace_s(self._config), lora=lora, keep=keep)
        for variant in todo.start:
            self._begin(variant, now)
        for version in todo.stop:
            if self._stop(version):
                log.info("stopped the engine of %s: it left the routing", version)
        for version, status in seen.items():
            if status == RUNNING:
                self.memory.tries.pop(version, None)
                self.errors.pop(version, None)
        return False

    def state(self) -> dict[str, Any]:
        """What runs and what does not, for people."""
        return {
            "routing": self._routing.n if self._routing else None,
            "engines": self._statuses(),
            "errors": self.errors,
        }

    def _previous_in_watch(self, routing: Routing) -> str | None:
        """What a rollback would make live, while the rollout watches its successor: going back must not wait for it."""
        settings = self._config.rollout
        if not settings.canary_steps or not settings.step.keep_previous or routing.previous is None:
            return None
        watched = utcnow() - self._live_since < timedelta(minutes=settings.step.watch_minutes)
        return routing.previous.version if watched else None

    def _begin(self, variant: Variant, now: float) -> None:
        self.memory.tried(variant.version, now)
        log.info("starting the engine of %s from %s", variant.version, variant.folder)
        try:
            self._start(variant)
        except Exception as error:  # noqa: BLE001  (one bad model must not keep the others from being served)
            self.errors[variant.version] = str(error)
            log.warning("the engine of %s was not started: %s", variant.version, error)

    def _look(self) -> None:
        if self._routing is None:
            self._remember_history()
        seen = self._routing.n if self._routing else 0
        found = truth.newer(self._store, self._config.flow, seen)
        if found is None:
            return
        for number in range(seen + 1, found.n):
            self._remember(number)
        if self._routing is None or self._routing.live.version != found.live.version:
            self._live_since = truth.live_since(self._store, found)
        self._routing = found

    def _remember_history(self) -> None:
        """After a restart: which engines are leftovers of earlier routings, and which are somebody else's."""
        newest = truth.current(self._store, self._config.flow)
        for number in range(1, newest.n if newest else 0):
            self._remember(number)

    def _remember(self, number: int) -> None:
        try:
            past = truth.read(self._store, self._config.flow, number)
        except LakeError as error:
            log.warning("%s", error)
            return
        self.memory.routed |= {variant.version for variant in past.variants()}
