"""Which requests a candidate was to answer, too, and whose they are. Pure.

Whether a request was mirrored is decided by a hash of its id under the routing that was in force (``gateway.route``),
and both are in its row. So the requests that a candidate should have answered are known exactly, and one without a
pair is missing: dropped from a full queue, lost with an engine, or never answered.
"""

from __future__ import annotations

from typing import Final

from flywheel.config import LiveQualityConfig
from flywheel.records import Inference, ShadowPair
from flywheel.rollout.routing import Routing, Shadow
from flywheel.text.hashing import stable_hash, unit_interval

COLUMNS: Final = (
    "flow", "inference_id", "ts", "session_id", "subject", "tenant", "consent", "traffic_kind", "model_version",
    "policy_version", "eligible_variants", "propensity", "assignment", "assignment_key_hash", "fallback", "messages",
    "choices", "choice_versions", "list_log_propensity", "finish_reason", "ttft_ms", "latency_ms", "tags",
)  # fmt: skip
"""Of ``inferences``."""
BROKEN: Final = frozenset({"error", "client_disconnect", "interrupted"})
"""How live answers end that are never mirrored."""


def was_mirrored(row: Inference, shadow: Shadow) -> bool:
    """Whether the gateway chose this request for ``shadow``, of the routing that the row names."""
    return (
        "evaluation" in row.consent
        and row.traffic_kind == "live"
        and row.fallback is None
        and row.assignment != "side_by_side"
        and bool(row.choices)
        and row.finish_reason not in BROKEN
        and unit_interval(row.inference_id, shadow.version) < shadow.share
    )


def shadow_in(routing: Routing | None, version: str) -> Shadow | None:
    """The shadow of that version in a routing, if it has it."""
    shadows = routing.shadows if routing else []
    return next((shadow for shadow in shadows if shadow.version == version), None)


def ended(row: Inference | ShadowPair) -> float:
    """When the live answer ended, in seconds since the epoch: only then is a request stored, and sent to candidates."""
    latency_ms = row.latency_ms if isinstance(row, Inference) else row.live_latency_ms
    return row.ts.timestamp() + (latency_ms or 0.0) / 1e3


def unit_of(row: Inference | ShadowPair, rules: LiveQualityConfig) -> str:
    """The unit that a request belongs to: a hash, so that what is kept of it names nobody."""
    session = row.session_id if rules.unit == "session" else None
    kind, name = ("session", session) if session else ("subject", row.subject)
    return f"{stable_hash(row.flow, kind, name):016x}"
