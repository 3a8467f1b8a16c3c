"""How the gateway talks to engines: by version, over Serve handles, with every failure told as an ``ApiProblem``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from flywheel.gateway.problems import ApiProblem, from_engine, timed_out, unavailable
from flywheel.inference import hints
from flywheel.inference.engines import app_name
from flywheel.rollout.riders import Rider

log = logging.getLogger(__name__)

PING_TIMEOUT_S = 2.0


class EngineClient(Protocol):
    """What the gateway needs of the engines."""

    async def chat(self, version: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """A whole answer. ``ApiProblem`` when there is none."""
        ...

    def stream(self, version: str, body: dict[str, Any], timeout_s: float) -> AsyncIterator[str]:
        """The answer as server-sent events. ``timeout_s`` bounds the wait for each."""
        ...

    async def ready(self, version: str) -> bool:
        """Whether the engine of ``version`` answers now."""
        ...


class ServeEngines:
    """Engines as Serve applications of this cluster, found by name; handles are kept until they fail."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}
        self._riders: dict[str, Rider] = {}
        self._said: dict[str, str] = {}

    def place(self, riders: Mapping[str, Rider]) -> set[str]:
        """Who rides on which engine from now on; the versions for which that changed."""
        before, self._riders = self._riders, dict(riders)
        changed = {name for name in before.keys() | riders.keys() if before.get(name) != riders.get(name)}
        for name in changed:
            if (handle := self._handles.pop(name, None)) is not None and name in before:
                handle.unload_adapter.remote(name)  # whoever still asks for it gets it loaded again
        return changed

    async def chat(self, version: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """See ``EngineClient``."""
        handle = await self._handle(version)
        response = handle.chat.remote(self._placed(version, body))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await response
        except TimeoutError as error:
            response.cancel()
            raise timed_out(version, timeout_s) from error
        except Exception as error:  # by value the engine's own exceptions arrive as themselves
            raise self._lost(version, error) from error
        if "error" in answer:
            raise from_engine(answer)
        return answer

    async def stream(self, version: str, body: dict[str, Any], timeout_s: float) -> AsyncIterator[str]:
        """See ``EngineClient``."""
        handle = await self._handle(version)
        response = handle.options(stream=True).stream.remote(self._placed(version, body))
        blocks = aiter(response)
        finished = False
        try:
            while True:
                async with asyncio.timeout(timeout_s):
                    piece = await anext(blocks)
                for event in split_events(piece):
                    yield event
        except StopAsyncIteration:
            finished = True
        except TimeoutError as error:
            raise timed_out(version, timeout_s) from error
        except Exception as error:
            raise self._lost(version, error) from error
        finally:
            if not finished:
                response.cancel()  # the client went away or the engine is late: free its place in the batch

    async def ready(self, version: str) -> bool:
        """See ``EngineClient``."""
        try:
            handle, rider = await self._handle(version), self._riders.get(version)
            response = handle.load_adapter.remote(version, rider.adapter) if rider else handle.ping.remote()
        except ApiProblem:
            return False
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                return await response == version
        except TimeoutError:
            response.cancel()
        except Exception as error:  # noqa: BLE001  (whatever it is, it does not answer)
            self._handles.pop(version, None)
            if version in self._riders:
                self._say_once(version, str(error))
        return False

    def _say_once(self, version: str, why: str) -> None:
        if self._said.get(version) != why:
            log.warning("the adapter of '%s' cannot be served: %s", version, why)
        self._said[version] = why

    async def _handle(self, version: str) -> Any:
        handle = self._handles.get(version)
        if handle is None:
            from ray import serve

            try:
                found = await asyncio.to_thread(serve.get_app_handle, app_name(self._engine_of(version)))
                # By value: straight to the replica over gRPC, not through Ray's object store. Half the processor
                # time of an answer and a third of a stream's (benchmarks/gateway_hop.py).
                handle = found.options(_by_reference=False)
            except _failures() as error:
                raise self._lost(version, error) from error
            self._handles[version] = handle
        return handle

    def _engine_of(self, version: str) -> str:
        rider = self._riders.get(version)
        return rider.base if rider else version

    def _placed(self, version: str, body: dict[str, Any]) -> dict[str, Any]:
        rider = self._riders.get(version)
        return hints.give(body, adapter=rider.adapter) if rider else body

    def _lost(self, version: str, error: BaseException) -> ApiProblem:
        if _is_its_own(error):  # the replica answers, with a traceback; Serve replaces it if it is not healthy
            text = f"the engine of '{version}' failed on this request"
            return ApiProblem(502, text, "server_error", code="engine_error")
        self._handles.pop(version, None)  # a handle of a removed application never works again
        return unavailable(f"the engine of '{version}' is not available ({type(error).__name__})", "engine_unavailable")


def split_events(piece: str) -> list[str]:
    """The server-sent events in a piece of a stream; one piece may hold several, never a part of one."""
    if piece.count("\n\n") <= 1:
        return [piece]
    return [f"{event}\n\n" for event in piece.split("\n\n") if event.strip()]


def _is_its_own(error: BaseException) -> bool:
    """Whether an exception was raised by the engine's code, and not by its absence."""
    from ray.exceptions import RayTaskError

    return isinstance(error, RayTaskError) or not isinstance(error, _failures())


def _failures() -> tuple[type[BaseException], ...]:
    from grpc import RpcError
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    return (RayError, RayServeException, RpcError)
