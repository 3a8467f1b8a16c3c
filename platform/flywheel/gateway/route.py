"""Which model answers: the routing truth, polled, with the last good copy on this machine's disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from flywheel.errors import LakeError
from flywheel.gateway.asked import Asked
from flywheel.gateway.assign import Assignment, assign
from flywheel.gateway.breaker import Breaker
from flywheel.gateway.engine_client import EngineClient
from flywheel.gateway.problems import ApiProblem, unavailable
from flywheel.records import Inference
from flywheel.rollout import routing as truth
from flywheel.rollout.routing import Routing, Shadow, Store
from flywheel.text.hashing import unit_interval

log = logging.getLogger(__name__)


def accepted_names(routing: Routing) -> list[str]:
    """Values that ``model`` may have: the flow, and each version the routing names. See ``assign`` for who answers."""
    versions = [variant.version for variant in routing.variants()]
    return [routing.flow, *versions, *([routing.previous.version] if routing.previous else [])]


def check_model(name: str, routing: Routing) -> None:
    """Return when ``model`` names this flow.

    Raises:
        ApiProblem: 404.
    """
    if name and name not in accepted_names(routing):
        raise ApiProblem(
            404,
            f"there is no model '{name}' here; use '{routing.flow}'",
            "invalid_request_error",
            code="model_not_found",
        )


def mirrored(inference: Inference, shadows: Sequence[Shadow]) -> list[Shadow]:
    """The shadows that see this request: none without ``evaluation`` consent, else each by its share.

    A request's fate is a hash of its id, so it is the same at every replica and never depends on its content.
    A candidate is compared with the live model: what a canary answered, or failed to answer first, is not mirrored, nor
    what a candidate answered already, side by side with it.
    """
    if "evaluation" not in inference.consent or inference.traffic_kind != "live" or inference.fallback is not None:
        return []
    if inference.assignment == "side_by_side":
        return []
    return [shadow for shadow in shadows if unit_interval(inference.inference_id, shadow.version) < shadow.share]


class Router:
    """The routing in force here. Never without one live model once it had one."""

    def __init__(
        self,
        store: Store,
        flow: str,
        engines: EngineClient,
        *,
        cache: Path,
        poll_s: float,
        secret: bytes | None = None,
    ) -> None:
        self._store, self._engines, self._cache, self._poll_s = store, engines, cache, poll_s
        self._secret = secret
        self.flow = flow
        self.breaker = Breaker()
        self.policy: Routing | None = None
        self.on_newest: Callable[[Routing], set[str]] | None = None
        """Told of each new routing before its engines are probed; the versions it returns are probed again."""
        self._newest: Routing | None = None
        self._ready: set[str] = set()

    def live(self) -> Routing:
        """The routing to answer with now.

        Raises:
            ApiProblem: 503: no model was ever put live, or its engine does not answer.
        """
        if self.policy is None:
            raise unavailable(f"no model is live for '{self.flow}' yet", "no_live_model", retry_after=5)
        if self.policy.live.version not in self._ready:
            version = self.policy.live.version
            raise unavailable(f"the engine of '{version}' is not ready", "engine_unavailable", retry_after=5)
        return self.policy

    def assign(self, asked: Asked) -> Assignment:
        """Who answers this request; see ``gateway.assign``.

        Raises:
            ApiProblem: 503, see ``live``.
        """
        return assign(self.live(), asked, secret=self._secret, usable=self.usable)

    def usable(self, canary: str) -> bool:
        """Whether requests may go to a canary: it is one by the newest routing too, its engine answers, and well.

        A canary that was stopped gets no request any more, even while the newest routing waits for its live model.
        """
        newest = self._newest
        serving = newest is None or canary in {other.version for other in [newest.live, *newest.canaries]}
        return serving and canary in self._ready and self.breaker.closed(canary)

    def named(self) -> set[str]:
        """Versions of the newest routing, in force here or not yet."""
        return {variant.version for variant in self._newest.variants()} if self._newest else set()

    def is_ready(self, version: str) -> bool:
        """Whether the engine of ``version`` answered its last probe."""
        return version in self._ready

    def lost(self, version: str) -> None:
        """Somebody found the engine of ``version`` gone: probe it again before using it."""
        self._ready.discard(version)

    async def run(self) -> None:
        """Poll until cancelled. What fails is logged and tried again; the last good routing stays in force."""
        while True:
            await self.step()
            await asyncio.sleep(self._poll_s)

    async def step(self) -> None:
        """Look at the truth once and probe what is not known to be ready."""
        await self._look()
        newest = self._newest
        if newest is None:
            return
        await asyncio.gather(*(self._probe(variant.version) for variant in newest.variants()))
        if self.policy is not None and self.policy.live != newest.live:
            await self._probe(self.policy.live.version)
        if self._may_adopt(newest):
            self.policy = newest
        # an engine that left the routing may be stopped: when it comes back it must be probed again
        named = {variant.version for policy in (newest, self.policy) if policy for variant in policy.variants()}
        self._ready &= named
        self.breaker.keep(named)

    def _may_adopt(self, newest: Routing) -> bool:
        """A new live model takes over when its engine answers, unless the present one does not answer either."""
        if self.policy is None or self.policy.live == newest.live:
            return True
        return newest.live.version in self._ready or self.policy.live.version not in self._ready

    async def _look(self) -> None:
        seen = self._newest.n if self._newest else 0
        try:
            found = await asyncio.to_thread(truth.newer, self._store, self.flow, seen)
        except (LakeError, OSError) as error:
            log.warning("the routing truth cannot be read, the last one stays in force: %s", error)
            found = await asyncio.to_thread(self._from_disk) if self._newest is None else None
        else:
            if found is not None:
                await asyncio.to_thread(self._to_disk, found)
        if found is not None:
            self._newest = found
            if self.on_newest is not None:
                self._ready -= self.on_newest(found)

    async def _probe(self, version: str) -> None:
        if version not in self._ready and await self._engines.ready(version):
            self._ready.add(version)

    def _from_disk(self) -> Routing | None:
        try:
            return Routing.model_validate_json(self._cache.read_bytes())
        except (OSError, ValidationError):
            return None

    def _to_disk(self, routing: Routing) -> None:
        draft = self._cache.with_name(f".{self._cache.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a full disk must not stop the routing; the copy is a convenience
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(routing.model_dump_json())
            draft.replace(self._cache)
