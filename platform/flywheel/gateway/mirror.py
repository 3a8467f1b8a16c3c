"""The shadow: live requests repeated at candidate engines, unseen by users.

Each candidate has a lane of its own (``shadow/lane.py``): queue, budget, timeout, breaker. What does not fit is
dropped with a counter. Consent is checked before the queue, and a withdrawal empties the queue of that person.
A request enters only after its live answer was recorded and sent; one whose client left, or that failed, never does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

from flywheel.capture.recorder import Recorder
from flywheel.config import GatewayConfig
from flywheel.gateway.asked import Asked
from flywheel.gateway.engine_client import EngineClient
from flywheel.gateway.route import Router, mirrored
from flywheel.gateway.shadow.lane import Held, Lane
from flywheel.gateway.shadow.limits import limits_of
from flywheel.gateway.shadow.pair import copy_of
from flywheel.records import Inference
from flywheel.rollout.routing import Shadow

SWEEP_S = 0.5


class Mirror:
    """Sends copies of live requests to the shadows and records both answers side by side."""

    def __init__(self, engines: EngineClient, router: Router, outbox: Recorder, config: GatewayConfig) -> None:
        self._engines, self._router, self._outbox, self._config = engines, router, outbox, config
        self._held = Held(most=config.shadow_memory_bytes)
        self._lanes: dict[str, Lane] = {}

    def offer(self, asked: Asked, inference: Inference, shadows: Sequence[Shadow]) -> None:
        """Queue the copies of a recorded request. Never waits, never raises."""
        for shadow in mirrored(inference, shadows):
            copy = copy_of(shadow.version, shadow.share, asked, inference, time.monotonic())
            self._lane(shadow).offer(copy)

    def withdraw(self, tenant: str, user: str) -> None:
        """Somebody withdrew the consent to evaluation: what waits of theirs is not sent."""
        for lane in self._lanes.values():
            lane.drop("withdrawn", lambda copy: copy.asked.tenant == tenant and copy.asked.user == user)

    async def run(self) -> None:
        """Look after the lanes until cancelled; then drop what waits."""
        try:
            while True:
                await asyncio.sleep(SWEEP_S)
                self._sweep()
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    def _lane(self, shadow: Shadow) -> Lane:
        limits = limits_of(shadow, self._config)
        lane = self._lanes.get(shadow.version)
        if lane is None:
            lane = Lane(
                shadow.version, limits, self._held, engines=self._engines, router=self._router, outbox=self._outbox
            )
            self._lanes[shadow.version] = lane
        lane.adjust(limits)
        return lane

    def _sweep(self) -> None:
        """A candidate that left the routing gets nothing more; its lane ends when the last answer is there."""
        policy = self._router.policy
        routed = {shadow.version for shadow in policy.shadows} if policy else set()
        for version, lane in list(self._lanes.items()):
            if version not in routed:
                lane.drop("left_routing")
                if lane.idle:
                    del self._lanes[version]
