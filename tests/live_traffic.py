"""Rows of live traffic with a shadow or a canary, as the gateway writes and the ingester stores them."""

import random
import uuid
from datetime import UTC, datetime, timedelta

from flywheel.records import Fallback, Feedback, Inference, Message, ShadowPair

START = datetime(2026, 11, 20, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def uuid7(ts: datetime, seed: int) -> str:
    """An id of that time, the same for the same seed."""
    bits = random.Random(seed).getrandbits(74)
    value = (int(ts.timestamp() * 1000) << 80) | (0x7 << 76) | ((bits >> 62) << 64) | (0x2 << 62) | (bits & (2**62 - 1))
    return str(uuid.UUID(int=value))


def asked(seconds: float, n: int, *, session="s1", user=None, text="Where is my order?", **changes) -> Inference:
    """One request that the live model v1 answered."""
    ts = at(seconds)
    fields = {
        "inference_id": uuid7(ts, n), "flow": "triage", "ts": ts, "session_id": session,
        "subject": user or f"u-{session}", "consent": ["evaluation"], "model_version": "v1", "policy_version": 2,
        "eligible_variants": ["v1"], "messages": [Message(role="user", content=text)], "choices": ["It is on its way."],
        "finish_reason": "stop", "latency_ms": 100.0,
    }  # fmt: skip
    return Inference(**{**fields, **changes})


def brought(row: Inference, answer: str | None = "It is on its way.", *, candidate="v2", **changes) -> ShadowPair:
    """The pair of that request."""
    fields = {
        "inference_id": row.inference_id, "flow": row.flow, "ts": row.ts, "subject": row.subject,
        "session_id": row.session_id, "candidate": candidate, "live_version": row.model_version,
        "live_answer": row.choices[0], "candidate_answer": answer, "live_latency_ms": row.latency_ms,
        "candidate_latency_ms": 100.0, "live_prompt_tokens": 10, "candidate_prompt_tokens": 10, "live_tokens": 6,
        "candidate_tokens": 6, "policy_version": row.policy_version, "mirror_propensity": 1.0, "tags": row.tags,
    }  # fmt: skip
    return ShadowPair(**{**fields, **changes})


def drawn(seconds: float, n: int, arm: str, *, user: str, share=0.25, failed=False) -> Inference:
    """One request that was drawn between the live model v1 and the canary v2."""
    chance = share if arm == "v2" else 1 - share
    how = {
        "assignment": "random", "model_version": arm, "eligible_variants": ["v1", "v2"], "propensity": chance,
        "traffic_kind": "canary" if arm == "v2" else "live", "assignment_key_hash": user * 8,
    }  # fmt: skip
    if failed:
        fallback = Fallback(assigned=arm, eligible=["v1", "v2"], propensity=chance, reason="engine_timeout")
        how |= {
            "assignment": "fallback", "model_version": "v1", "eligible_variants": ["v1"], "propensity": 1.0,
            "fallback": fallback, "traffic_kind": "live",
        }  # fmt: skip
    return asked(seconds, n, session=None, user=user, **how)


def said(row: Inference, kind: str, value: float | None = None, *, after: float = 5) -> Feedback:
    """A reaction to an answer."""
    ts = row.ts + timedelta(seconds=after)
    return Feedback(
        feedback_id=f"{kind}-{row.inference_id}-{after}", inference_id=row.inference_id, flow=row.flow, ts=ts,
        subject=row.subject, kind=kind, value=value, text="x" if kind == "correction" else None,
    )  # fmt: skip
