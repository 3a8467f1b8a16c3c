"""Counters and histograms of the gateway, for ``/metrics``. Names come from ``flywheel.telemetry``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from flywheel import telemetry

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

REQUESTS = Counter(telemetry.REQUESTS_TOTAL, "Chat requests by outcome", ["outcome"])
SECONDS = Histogram(telemetry.REQUEST_SECONDS, "Seconds until the last token", ["model"], buckets=BUCKETS)
ASSIGNED = Counter(telemetry.ASSIGNED_TOTAL, "Chat requests by the model they were assigned to", ["model", "how"])
FALLBACKS = Counter(telemetry.FALLBACKS_TOTAL, "Answers of the live model in place of a canary", ["canary", "reason"])
FEEDBACK = Counter(telemetry.FEEDBACK_TOTAL, "Feedback events acknowledged", ["kind"])
REFUSED = Counter(telemetry.REFUSED_TOTAL, "Requests refused before they were read", ["reason"])
KEYS_STALE = Gauge(telemetry.KEYS_STALE, "1: the key file is bad, and the last good keys are in force")
SHADOW_SAMPLED = Counter(
    telemetry.SHADOW_SAMPLED_TOTAL, "Live requests chosen for a shadow: sent + dropped + waiting", ["candidate"]
)
SHADOW_WAITING = Gauge(telemetry.SHADOW_WAITING, "Mirrored requests in the queue of a shadow", ["candidate"])
SHADOW_OUTCOMES = Counter(
    telemetry.SHADOW_OUTCOMES_TOTAL, "Sent requests by what came of them", ["candidate", "outcome"]
)
SHADOW_PAIRS_LOST = Counter(telemetry.SHADOW_PAIRS_LOST_TOTAL, "Pairs that could not be stored", ["candidate"])
SHADOW_SENT = Counter(telemetry.SHADOW_SENT_TOTAL, "Mirrored requests sent to a shadow", ["candidate"])
SHADOW_DROPPED = Counter(telemetry.SHADOW_DROPPED_TOTAL, "Mirrored requests dropped", ["candidate", "reason"])
