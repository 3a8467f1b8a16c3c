"""A mirrored request while it waits, what it may cost, and the row that it becomes. Pure."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from flywheel.gateway.asked import Asked
from flywheel.gateway.shadow.heard import WIRE_BYTES_PER_ANSWER_BYTE, Heard
from flywheel.gateway.shadow.limits import Limits
from flywheel.inference import hints
from flywheel.records import Inference, ShadowPair

CHARACTERS_PER_TOKEN = 3
"""For a prompt whose length the live engine did not tell; on the low side, so that it costs rather too much."""
NOT_MIRRORED = frozenset({"n", "logprobs", "top_logprobs"})
"""One answer is compared, by its text."""


@dataclass(frozen=True)
class Copy:
    """One live request on its way to one candidate."""

    candidate: str
    share: float
    asked: Asked
    inference: Inference
    queued: float
    """monotonic seconds"""
    size: int
    """bytes of text that it keeps in memory"""
    cost: float
    """tokens that it may cost"""

    def body(self, limits: Limits) -> dict[str, Any]:
        """What the candidate is asked: the same, once, behind the live requests of the engine, in few pieces.

        Tools go with it, because an answer without them would be another one; nobody executes what it calls.
        """
        request_id = f"shadow-{self.candidate}-{self.inference.inference_id}"
        asked = self.asked.engine_body(self.candidate, stream=True, request_id=request_id)
        body = {name: value for name, value in asked.items() if name not in NOT_MIRRORED}
        most = limits.answer_bytes * WIRE_BYTES_PER_ANSWER_BYTE
        return hints.give({**body, "n": 1, "priority": limits.priority}, coalesce=True, max_bytes=most)


def copy_of(candidate: str, share: float, asked: Asked, inference: Inference, now: float) -> Copy:
    """A copy of a recorded request at ``now`` (monotonic seconds)."""
    text = sum(_size(message.content) for message in asked.messages)
    prompt = inference.prompt_tokens or sum(len(m.content or "") for m in asked.messages) / CHARACTERS_PER_TOKEN
    return Copy(
        candidate=candidate,
        share=share,
        asked=asked,
        inference=inference,
        queued=now,
        size=text + _size(asked.params) + _size(inference.choices),
        cost=prompt + _most_tokens(asked),
    )


def true_cost(copy: Copy, heard: Heard) -> float:
    """Tokens that it did cost; what nobody counted costs what it might have."""
    if heard.prompt_tokens is None or heard.completion_tokens is None:
        return copy.cost
    return heard.prompt_tokens + heard.completion_tokens


def pair_of(copy: Copy, heard: Heard, *, queue_ms: float) -> ShadowPair:
    """Both answers side by side. Without the candidate's it says why."""
    live = copy.inference
    # Of best-of-n a plain draw, since the candidate is drawn once: the served one is picked to be better.
    answer = 0 if live.choosing else live.choice_served
    return ShadowPair(
        inference_id=live.inference_id,
        flow=live.flow,
        ts=live.ts,
        subject=live.subject,
        session_id=live.session_id,
        candidate=copy.candidate,
        live_version=live.model_version,
        policy_version=live.policy_version,
        mirror_propensity=copy.share,
        live_answer=live.choices[answer] if answer < len(live.choices) else "",
        candidate_answer=heard.answer,
        candidate_tool_calls=heard.tool_calls,
        live_tool_calls=live.tool_calls[answer] if answer < len(live.tool_calls) else [],
        live_latency_ms=live.latency_ms,
        candidate_latency_ms=heard.latency_ms,
        live_ttft_ms=live.ttft_ms,
        candidate_ttft_ms=heard.ttft_ms,
        queue_ms=queue_ms,
        live_prompt_tokens=live.prompt_tokens,
        live_tokens=live.completion_tokens,
        candidate_prompt_tokens=heard.prompt_tokens,
        candidate_tokens=heard.completion_tokens,
        live_finish_reason=live.finish_reason,
        candidate_finish_reason=heard.finish_reason,
        error_kind=heard.error_kind,
        error=heard.error,
        tags=live.tags,
    )


def _most_tokens(asked: Asked) -> float:
    most = asked.params.get("max_completion_tokens") or asked.params.get("max_tokens") or 0
    return float(most)


def _size(value: Any) -> int:
    """Bytes of the texts in a value. Long texts are what counts; the objects around them are small and bounded."""
    if isinstance(value, str):
        return sys.getsizeof(value)
    if isinstance(value, dict):
        return sum(_size(key) + _size(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return 64
