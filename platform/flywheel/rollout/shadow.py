"""What the shadow showed: the live model and a candidate on the same live requests. Pure."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from flywheel.records import Record, ShadowPair, ToolCall
from flywheel.text.normalise import normalise


class ShadowSummary(Record):
    """One candidate's shadow. Produced here from ``shadow_pairs``, consumed by the gate and by people."""

    candidate: str
    n: int = Field(ge=0, description="mirrored requests, those that brought no pair included")
    answered: int = Field(ge=0, description="of them, answered by the candidate")
    errors: int = Field(ge=0, description="of them, failed or missing")
    error_rate: float | None = Field(description="errors / n; None without any request")
    agreement: float | None = Field(description="share of n on which both gave the same answer")
    live_latency_ms: float | None = Field(description="median over requests measured on both sides")
    candidate_latency_ms: float | None = Field(description="median over requests measured on both sides")
    latency_ratio: float | None = Field(description="candidate / live median latency")
    candidate_tokens: float | None = Field(default=None, description="median length of the candidate's answers")


def summarise(pairs: Iterable[ShadowPair], *, candidate: str, expected: int | None = None) -> ShadowSummary:
    """Count, compare and time a candidate's pairs.

    A pair without an answer, and a mirrored request without a pair, count against the candidate: they are
    errors and disagreements. A pair stored twice counts once.

    Args:
        pairs: of any candidates; others are passed over.
        candidate: version.
        expected: requests that were mirrored to it, where known; what is missing in ``pairs`` is an error.
    """
    unique = {pair.inference_id: pair for pair in pairs if pair.candidate == candidate}
    answered = [pair for pair in unique.values() if pair.candidate_answer is not None and pair.error is None]
    n = max(len(unique), expected or 0)
    agreed = sum(_agree(pair) for pair in answered)
    timed = [
        (pair.live_latency_ms, pair.candidate_latency_ms)
        for pair in answered
        if pair.live_latency_ms is not None and pair.candidate_latency_ms is not None
    ]
    live, shadow = _median([pair[0] for pair in timed]), _median([pair[1] for pair in timed])
    return ShadowSummary(
        candidate=candidate,
        n=n,
        answered=len(answered),
        errors=n - len(answered),
        error_rate=(n - len(answered)) / n if n else None,
        agreement=agreed / n if n else None,
        live_latency_ms=live,
        candidate_latency_ms=shadow,
        latency_ratio=shadow / live if live and shadow is not None else None,
        candidate_tokens=_median([pair.candidate_tokens for pair in answered if pair.candidate_tokens is not None]),
    )


def _median(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(statistics.median(finite)) if finite else None


def _agree(pair: ShadowPair) -> bool:
    """Both say the same and would have called the same tools in the same order."""
    return _same(pair.live_answer, pair.candidate_answer or "") and _calls(pair.live_tool_calls) == _calls(
        pair.candidate_tool_calls
    )


def _calls(calls: Sequence[ToolCall]) -> list[tuple[str, Any]]:
    """Names and arguments; ids are drawn anew each time."""
    return [
        (call.function.name, call.function.arguments if parsed is None else parsed)
        for call in calls
        for parsed in [_json(call.function.arguments)]
    ]


def _same(left: str, right: str) -> bool:
    """Equal as JSON where both are, else equal when normalised."""
    first, second = _json(left), _json(right)
    if first is not None and second is not None:
        return first == second
    return normalise(left) == normalise(right)


def _json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None
