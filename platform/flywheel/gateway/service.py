"""One gateway replica: its parts, put together from a configuration, and its background work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from flywheel.capture.events import to_event
from flywheel.capture.recorder import Recorder, open_recorder
from flywheel.config import FlywheelConfig, config_hash
from flywheel.errors import CaptureError, LakeError
from flywheel.gateway import metrics, reactions
from flywheel.gateway.asked import Asked, read_chat, read_completion
from flywheel.gateway.assign import beside, undrawn
from flywheel.gateway.auth import ApiKeys, Caller
from flywheel.gateway.canary import answered
from flywheel.gateway.chat import Answering, Stream, whole
from flywheel.gateway.choosing.best_of import BestOf
from flywheel.gateway.choosing.engagement import EngagementRankers
from flywheel.gateway.choosing.found import find_ranker
from flywheel.gateway.choosing.rankers import Ranker
from flywheel.gateway.choosing.side_by_side import SideBySide
from flywheel.gateway.engine_client import EngineClient
from flywheel.gateway.feedback import Taken, take
from flywheel.gateway.mirror import Mirror
from flywheel.gateway.outcomes.counting import Counting, NoOutcomes
from flywheel.gateway.outcomes.telling import ROLLOUT_APP, Send, ServeSend, Telling
from flywheel.gateway.problems import ApiProblem, unavailable
from flywheel.gateway.rank import Ranking
from flywheel.gateway.rank_request import read_rank
from flywheel.gateway.route import Router, accepted_names, check_model
from flywheel.gateway.stopping import drained, refused, shutting_down
from flywheel.gateway.tokens import FeedbackTokens, NoTokens
from flywheel.records import Api, Consent, Feedback
from flywheel.rollout.riders import placed
from flywheel.rollout.routing import Store


class Gateway:
    """What the HTTP routes call. One event loop, one outbox, one router."""

    def __init__(
        self,
        config: FlywheelConfig,
        *,
        store: Store,
        engines: EngineClient,
        outbox: Recorder,
        feedback_key: bytes,
        keys: ApiKeys,
        assignment_key: bytes | None = None,
        ranker: Callable[[str, FlywheelConfig], Ranker] = find_ranker,
        tell: Send | None = None,
    ) -> None:
        settings = config.gateway
        self.config, self.keys, self.outbox = config, keys, outbox
        cache = config.home_path() / "routing" / f"{config.flow}.json"
        self.router = Router(
            store, config.flow, engines, cache=cache, poll_s=settings.routing_poll_s, secret=assignment_key
        )
        self.mirror = Mirror(engines, self.router, outbox, settings)
        issuer = NoTokens if outbox.mode == "off" else FeedbackTokens
        self.tokens = issuer(feedback_key, flow=config.flow, days=settings.feedback_token_days)
        self.counting = Counting(config.privacy, settings.canary_timeout_s) if config.rollout.canary_steps else None
        self._telling = Telling(self.counting, self.router, tell) if self.counting and tell else None
        self._answering = Answering(
            best_of=BestOf(settings.best_of, ranker(settings.best_of.ranker, config), engines),
            router=self.router,
            outbox=outbox,
            mirror=self.mirror,
            tokens=self.tokens,
            config_hash=config_hash(config),
            timeout_s=config.engine.request_timeout_s,
            first_s=config.engine.request_timeout_s,
            keys=keys,
            outcomes=self.counting or NoOutcomes(),
        )
        self._side_by_side = SideBySide(settings.side_by_side, engines, self.router)
        self._rankers = _learnt_rankers(config, store)
        self._ranking = Ranking(settings.ranking, ranker(settings.ranking.ranker, config), self._rankers)
        self._active = 0
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Look at the routing once and begin to poll and to mirror."""
        await self.router.step()
        if self._rankers is not None:
            await self._rankers.step()
        loops = (self.router, self.mirror, self.keys, self.counting, self._telling, self._rankers)
        self._tasks = [asyncio.create_task(_background(loop.run())) for loop in loops if loop is not None]

    async def stop(self) -> None:
        """Take nothing new, finish what is being answered and recorded, then close the outbox; the shipper has it."""
        self._stopping = True
        await drained(lambda: self._active, self.config.gateway.drain_timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._answering.background, return_exceptions=True)
        await asyncio.to_thread(self.outbox.close)

    def check(self) -> None:
        """Raise when a background loop or the recorder's writer ended: the replica must be replaced."""
        self.outbox.check()
        for task in self._tasks:
            if task.done() and not task.cancelled():
                raise RuntimeError(f"a background loop of the gateway ended: {task.exception()!r}")

    def admit(self, flow: str | None) -> None:
        """Refuse what this gateway cannot take now.

        Raises:
            ApiProblem: 404 for another flow, 429 when full, 503 when it stops or could not record the answer.
        """
        if flow and flow != self.config.flow:
            raise ApiProblem(
                404,
                f"this gateway serves the flow '{self.config.flow}', not '{flow[:64]}'",
                "invalid_request_error",
                code="flow_not_found",
            )
        self._can_record()
        if self._active >= self.config.gateway.max_ongoing_requests:
            metrics.REQUESTS.labels("too_many").inc()
            raise ApiProblem(
                429, "too many requests at once; try again", "rate_limit_error", code="queue_full", retry_after=1
            )

    def _can_record(self) -> None:
        if self._stopping:
            raise shutting_down()
        if refusal := self.outbox.refusal():
            raise refused(refusal)

    def begin(self) -> None:
        """One more chat is being answered."""
        self._active += 1

    def finish(self) -> None:
        """One chat less."""
        self._active -= 1

    def asked(
        self,
        caller: Caller,
        body: dict[str, Any],
        headers: Any,
        *,
        api: Api = "chat",
        inference_id: str | None = None,
    ) -> Asked:
        """See ``asked.read_chat`` and ``asked.read_completion``."""
        limit = self.config.gateway.default_max_tokens
        read = read_chat if api == "chat" else read_completion
        asked = read(body, headers, tenant=caller.tenant, default_max_tokens=limit, inference_id=inference_id)
        return replace(asked, key_id=caller.key_id)

    async def chat(self, asked: Asked) -> dict[str, Any] | Stream:
        """Answer with the model that the routing assigns; a ``Stream`` when it was asked for one."""
        routing = self.router.live()
        check_model(asked.model, routing)
        two = self._side_by_side.for_request(asked, routing)
        if two is not None:
            return await whole(self._answering, asked, beside(routing, asked.tenant), two.chat)
        return await answered(self._answering, asked, self.router.assign(asked), self.config.gateway.canary_timeout_s)

    async def rank(self, caller: Caller, body: dict[str, Any], headers: Any) -> dict[str, Any]:
        """Order the product's items; the list is recorded like an answer."""
        wanted = read_rank(body, headers, tenant=caller.tenant, settings=self.config.gateway.ranking)
        routing = self.router.live()
        check_model(wanted.asked.model, routing)
        return await self._ranking.rank(self._answering, wanted, undrawn(routing, caller.tenant))

    def models(self) -> list[str]:
        """Names that ``model`` may have."""
        return accepted_names(self.router.policy) if self.router.policy else [self.config.flow]

    async def feedback(self, caller: Caller, body: dict[str, Any]) -> Taken:
        """Record one reaction or a batch; what came of it, once it is durable."""
        self._can_keep("feedback")
        limit = self.config.gateway.feedback_items
        taken = take(body, caller, self.tokens, flow=self.config.flow, limit=limit)
        await self._store(caller, taken.rows)
        for row in taken.rows:
            metrics.FEEDBACK.labels(row.kind).inc()
        return taken

    async def consent(self, caller: Caller, body: dict[str, Any]) -> int:
        """Record a statement; the number of purposes it was about, once it is durable."""
        self._can_keep("consent")
        rows = reactions.consent_rows(reactions.read_consent_body(body))
        await self._store(caller, rows)
        for row in rows:
            if row.purpose == "evaluation" and row.state == "withdrawn":
                self.mirror.withdraw(caller.tenant, row.subject)
        return len(rows)

    def _can_keep(self, what: str) -> None:
        if self.outbox.mode == "off":
            message = f"this gateway records nothing (capture.mode is 'off'), so it cannot take {what}"
            raise ApiProblem(404, message, "invalid_request_error", code="capture_off")
        self._can_record()

    async def _store(self, caller: Caller, rows: Sequence[Feedback | Consent]) -> None:
        try:
            events = [to_event(row, flow=self.config.flow, tenant=caller.tenant) for row in rows]
            await self.outbox.append(events)
        except CaptureError as error:
            raise unavailable(str(error), "not_recorded") from error


def open_gateway(config: FlywheelConfig, keys: ApiKeys) -> Gateway:
    """A gateway over the lake and the engines of this cluster.

    Raises:
        ConfigError: the lake was filled under another master key, so tokens and assignments would not be the others'.
    """
    from flywheel.gateway.engine_client import ServeEngines
    from flywheel.lake.keys import Keyring
    from flywheel.lake.store import ObjectStore

    store, keyring = ObjectStore(config.lake_uri(), config.lake.storage_options), Keyring(config.home_path())
    with contextlib.suppress(LakeError):  # a lake that is away is no reason not to answer
        keyring.check_belongs(store)
    engines = ServeEngines()
    gateway = Gateway(
        config,
        store=store,
        engines=engines,
        outbox=open_recorder(config),
        feedback_key=keyring.feedback_key(),
        keys=keys,
        assignment_key=keyring.assignment_key(),
        tell=ServeSend(ROLLOUT_APP),
    )
    gateway.router.on_newest = lambda routing: engines.place(placed(routing, lora=config.engine.enable_lora).riders)
    return gateway


def _learnt_rankers(config: FlywheelConfig, store: Store) -> EngagementRankers | None:
    """Where ``gateway.ranking.ranker`` is engagement: what the lake says that serves."""
    if config.gateway.ranking.ranker != "engagement":
        return None
    cache, poll_s = config.home_path() / "rankers", config.gateway.routing_poll_s
    return EngagementRankers(store, config.flow, cache=cache, poll_s=poll_s)


async def _background(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await work
