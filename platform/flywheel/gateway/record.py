"""The row of one answered request, and the reader that collects it from a stream. Pure."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flywheel.gateway.asked import Asked
from flywheel.gateway.protocol.collect import Collected, garbled, read_whole
from flywheel.gateway.route import Assignment
from flywheel.records import Inference, ToolCall, utcnow

DONE = "data: [DONE]\n\n"


@dataclass
class Answer:
    """What is known of an answer so far."""

    started: float = field(default_factory=time.perf_counter)
    ts: datetime = field(default_factory=utcnow)
    choices: list[str] = field(default_factory=list)
    tool_calls: list[list[ToolCall]] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_ms: float | None = None
    """Milliseconds until a stream began; None for a whole answer."""
    ttft_ms: float | None = None
    latency_ms: float | None = None
    drawn: dict[str, Any] = field(default_factory=dict)
    """Columns of the row where several answers were drawn for the one that is served (``choosing.best_of``)."""
    collected: Collected = field(default_factory=Collected)

    def elapsed_ms(self) -> float:
        """Milliseconds since the request was accepted."""
        return (time.perf_counter() - self.started) * 1e3

    def waited_ms(self) -> float:
        """Milliseconds until there was something for the client, or until now."""
        return next(ms for ms in (self.first_ms, self.latency_ms, self.elapsed_ms()) if ms is not None)

    def take(self, whole: dict[str, Any]) -> None:
        """Fill in from a whole ``chat.completion`` or ``text_completion``.

        Raises:
            ApiProblem: 502: that is no such answer.
        """
        self.latency_ms = self.elapsed_ms()
        self.choices, self.tool_calls, self.finish_reason = read_whole(whole)
        self._usage(whole.get("usage"))

    def take_chunk(self, chunk: dict[str, Any]) -> bool:
        """Fill in from one chunk of a stream. True when it held something for the client besides usage."""
        self._usage(chunk.get("usage"))
        choices = chunk.get("choices")
        if choices and self.collected.add(choices):
            self.ttft_ms = self.ttft_ms or self.elapsed_ms()
        self.latency_ms = self.elapsed_ms()
        return bool(choices)

    def settle(self) -> None:
        """Put together what the chunks brought so far."""
        if self.collected.pieces:
            self.choices, self.tool_calls = self.collected.texts(), self.collected.calls()
            self.finish_reason = self.finish_reason or self.collected.finish_reason

    def ended(self, reason: str) -> None:
        """The answer stopped early."""
        self.finish_reason, self.latency_ms = reason, self.elapsed_ms()
        self.settle()

    def _usage(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self.prompt_tokens = usage.get("prompt_tokens")
            self.completion_tokens = usage.get("completion_tokens")


def inference_row(asked: Asked, answer: Answer, assignment: Assignment, *, config_hash: str) -> Inference:
    """The row as the outbox takes it: raw text, raw user id."""
    row = Inference(
        inference_id=asked.inference_id,
        flow=assignment.routing.flow,
        tenant=asked.tenant,
        ts=answer.ts,
        session_id=asked.session_id,
        parent_id=asked.parent_id,
        subject=asked.user,
        consent=asked.consent,
        traffic_kind=assignment.kind,
        model_version=assignment.variant.version,
        policy_version=assignment.routing.n,
        eligible_variants=assignment.eligible,
        propensity=assignment.propensity,
        assignment_key_hash=assignment.key_hash,
        assignment=assignment.how,
        fallback=assignment.fallback,
        messages=asked.messages,
        params=asked.params,
        choices=list(answer.choices),
        tool_calls=list(answer.tool_calls),
        api=asked.api,
        tags=asked.tags,
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        ttft_ms=answer.ttft_ms,
        latency_ms=answer.latency_ms,
        config_hash=config_hash,
    )
    return Inference.model_validate({**row.__dict__, **answer.drawn}) if answer.drawn else row


def mark(body: dict[str, Any], asked: Asked, token: str, version: str) -> dict[str, Any]:
    """An engine's answer or chunk as the client gets it: our id, the real version, and how to rate it."""
    return {
        **body,
        "id": asked.answer_id,
        "model": version,
        "flywheel": {"inference_id": asked.inference_id, "feedback_token": token or None, "model_version": version},
    }


def event(body: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


def payload(block: str) -> dict[str, Any] | None:
    """The JSON of one server-sent event; None for ``[DONE]`` and for blank or comment lines.

    Raises:
        ApiProblem: 502: it is no JSON object.
    """
    line = block.strip()
    if not line.startswith("data:"):
        return None
    text = line.removeprefix("data:").strip()
    if text == "[DONE]":
        return None
    try:
        chunk = json.loads(text)
    except ValueError as error:
        raise garbled("an event that is not JSON") from error
    if not isinstance(chunk, dict):
        raise garbled("an event that is not an object")
    return chunk
