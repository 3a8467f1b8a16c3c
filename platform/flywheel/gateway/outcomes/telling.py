"""Tells the rollout's controller the counters of this replica every second. Users never wait for it.

One report is on its way at a time, for so long and no longer; one that fails is made good by the next, which holds the
same totals and more. A controller that is away costs a log line.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from flywheel.gateway.outcomes.counting import Counting
from flywheel.gateway.route import Router

log = logging.getLogger(__name__)

ROLLOUT_APP: Final = "rollout"
"""The Serve application that hears the counters; see ``operate.rollout_app``."""
EVERY_S: Final = 1.0
PATIENCE_S: Final = 2.0
LONGEST_S: Final = 10.0
"""Pause after failures in a row, at the most."""

Send = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any] | None]]


class Telling:
    """The reports of one replica."""

    def __init__(self, counting: Counting, router: Router, send: Send, *, every_s: float = EVERY_S) -> None:
        self._counting, self._router, self._send, self._every_s = counting, router, send, every_s
        self._replica, self._seq = uuid.uuid4().hex, 0
        self._failures = 0

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self.tell()
            await asyncio.sleep(min(LONGEST_S, self._every_s * 2.0 ** min(self._failures, 10)))

    async def tell(self) -> None:
        """One report. What goes wrong with it is nobody's matter here."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                reply = await self._send(self._report())
        except Exception as error:  # noqa: BLE001  (whatever it is: the next report says the same)
            self._failures += 1
            if self._failures == 1:
                log.warning("the rollout's controller does not hear this gateway: %r", error)
            return
        self._failures = 0
        self._counting.reading = bool(reply and reply.get("comparing"))

    def _report(self) -> dict[str, Any]:
        self._seq += 1
        policy = self._router.policy
        if policy is not None:
            self._counting.keep(policy)
        versions = {variant.version for variant in policy.variants()} if policy else set[str]()
        ready = [version for version in sorted(versions | self._router.named()) if self._router.is_ready(version)]
        return {"replica": self._replica, "seq": self._seq, "ready": ready, "tallies": self._counting.told()}


class ServeSend:
    """To the Serve application ``rollout``, over a handle that is kept until it fails."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._handle: Any = None

    async def __call__(self, report: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the controller replies.

        Raises:
            Exception: whatever Serve or Ray raise; the handle is looked up again then.
        """
        response: Any = None
        try:
            if self._handle is None:
                from ray import serve

                self._handle = await asyncio.to_thread(serve.get_app_handle, self._app)
            response = self._handle.report.remote(dict(report))
            return await response
        except BaseException:
            self._handle = None
            if response is not None:
                response.cancel()
            raise
