"""Many answers from a running engine, for evaluation: batches over its Serve handle, order kept, errors per item.

One Serve call carries a batch, because the hop costs as much as a short answer of a small model does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from flywheel.errors import EngineError
from flywheel.inference.engines import app_name
from flywheel.records import Message

T = TypeVar("T")
REFUSED = "refused: "
"""Begins the error of a request that the engine will never answer, such as one that is too long."""
CALL_ATTEMPTS = 3
CALLS_IN_FLIGHT = 2  # while one batch drains, the next one fills the engine


@dataclass(frozen=True)
class Completion:
    """One answer, or the reason why there is none."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_ms: float | None
    ttft_ms: float | None = None
    error: str | None = None


def generate(
    version: str,
    conversations: Sequence[Sequence[Message]],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int | None = None,
    concurrency: int = 32,
    timeout_s: float = 60,
    extra: Mapping[str, Any] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Answer every conversation with the running engine of ``version``.

    Args:
        version: its engine application must run.
        conversations: what to answer; each ends with the user's turn.
        max_tokens: longest answer, tokens.
        temperature: 0 is greedy.
        seed: of what is drawn, each conversation for itself; none: another one every time.
        concurrency: requests in the engine at once.
        timeout_s: seconds one item may take.
        extra: further fields of every request, such as ``response_format``.
        on_progress: called with the number of answers done so far.

    Returns:
        One ``Completion`` per conversation, in order. An item that failed has ``error`` set and an empty text.

    Raises:
        EngineError: there is no such engine.
    """
    bodies = [
        {
            "model": version,
            "messages": [message.model_dump() for message in conversation],
            "max_tokens": max_tokens,
            "temperature": temperature,
            **({} if seed is None else {"seed": seed}),
            **(extra or {}),
        }
        for conversation in conversations
    ]
    return run_to_end(_generate(_handle(version), bodies, concurrency, timeout_s, on_progress))


async def _generate(
    handle: Any,
    bodies: list[dict[str, Any]],
    concurrency: int,
    timeout_s: float,
    on_progress: Callable[[int], None] | None,
) -> list[Completion]:
    results: list[Completion | None] = [None] * len(bodies)
    share = max(1, concurrency // CALLS_IN_FLIGHT)
    starts = iter(range(0, len(bodies), 4 * share))
    done = 0

    async def drain() -> None:
        nonlocal done
        for start in starts:
            part = bodies[start : start + 4 * share]
            answers = await _call(handle, part, share, timeout_s)
            results[start : start + len(part)] = map(completion, answers)
            done += len(part)
            if on_progress:
                on_progress(done)

    await asyncio.gather(*(drain() for _ in range(CALLS_IN_FLIGHT)))
    return [result for result in results if result is not None]


async def _call(handle: Any, part: list[dict[str, Any]], share: int, timeout_s: float) -> list[dict[str, Any]]:
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    limit = timeout_s * (len(part) / share + 1)
    reason = ""
    for attempt in range(CALL_ATTEMPTS):
        await asyncio.sleep(attempt)
        try:
            return await asyncio.wait_for(_awaited(handle.generate.remote(part, share, timeout_s)), limit)
        except TimeoutError:
            reason = f"the engine did not answer within {limit:g} s"
            break
        except (RayError, RayServeException) as error:  # its replica died: the handle waits for the next one
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return [{"error": {"message": reason}} for _ in part]


async def _awaited(response: Any) -> Any:
    return await response


def completion(answer: dict[str, Any]) -> Completion:
    """An OpenAI-shaped answer (or error) as a ``Completion``. Pure."""
    latency = answer.get("latency_ms")
    if "error" in answer:
        return Completion("", "error", None, None, latency, error=_reason(answer["error"]))
    choice, usage = answer["choices"][0], answer.get("usage") or {}
    return Completion(
        text=choice["message"].get("content") or "",
        finish_reason=choice.get("finish_reason"),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        latency_ms=latency,
    )


def _reason(error: dict[str, Any]) -> str:
    message, code = str(error.get("message", "unknown error")), error.get("code")
    return f"{REFUSED}{message}" if isinstance(code, int) and 400 <= code < 500 else message


def _handle(version: str) -> Any:
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        return serve.get_app_handle(app_name(version))
    except RayServeException as error:
        raise EngineError(f"no engine of '{version}' is running; start it first (inference.engines.start)") from error


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run asynchronous work on a loop of its own, also when the caller already is in one."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  (carried over to the calling thread and raised there)
            failure.append(error)

    thread = threading.Thread(target=run, name="flywheel-generate")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
