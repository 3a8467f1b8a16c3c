"""What was decided about a candidate before: looks at its results, and a person's approval.

``evidence`` names what a verdict rests on: the evaluation runs and the set of cases. Two verdicts with equal
evidence are one look; an approval counts for the evidence it was given on and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flywheel.config import FlywheelConfig
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake
from flywheel.records import Decision, utcnow

ROLLOUT = "rollout"
"""The actor of what the state machine does by itself."""


def decisions(lake: Lake, flow: str) -> list[Decision]:
    """Every decision of a flow, oldest first."""
    return sorted(lake.records("decisions", Decision, flow=flow), key=lambda row: (row.ts, row.decision_id))


def earlier_looks(rows: Iterable[Decision], *, candidate: str, live: str, evidence: Sequence[str]) -> int:
    """How many other sets of cases could have promoted this candidate over this live model.

    Verdicts on fewer cases than the policy asked for are not counted: they could not promote, so that collecting
    up to that number, and judging once there, keeps the error rate.
    """
    looks = {
        tuple(row.evidence)
        for row in rows
        if row.action == "gate" and (row.candidate, row.live) == (candidate, live) and row.evidence and _enough(row)
    }
    return len(looks - {tuple(evidence)})


def approval(rows: Iterable[Decision], *, candidate: str, evidence: Sequence[str]) -> Decision | None:
    """The latest approval of this candidate on exactly this evidence."""
    found = [
        row for row in rows if row.action == "approve" and row.candidate == candidate and row.evidence == list(evidence)
    ]
    return found[-1] if found else None


def passed(rows: Iterable[Decision], *, candidate: str, live: str) -> Decision | None:
    """The gate's latest verdict about ``candidate`` against ``live`` where it is to promote and still holds.

    It holds no longer once the model was taken back: by a rollback, as a canary, or from the shadow by the rollout.
    """
    found: Decision | None = None
    for row in rows:
        if row.candidate != candidate:
            continue
        if row.action in {"rollback", "uncanary"} or (row.action == "unshadow" and row.actor == ROLLOUT):
            found = None
        elif row.action == "gate" and row.live == live:
            found = row if row.verdict == "promote" else None
    return found


def record_approval(
    lake: Lake,
    config: FlywheelConfig,
    *,
    turn_id: str,
    candidate: str,
    live: str,
    evidence: Sequence[str],
    reason: str,
    actor: str,
) -> Decision:
    """Store that ``actor`` approves ``candidate`` on ``evidence``; saying it again stores nothing new."""
    identity = content_id("approve", config.flow, turn_id, candidate, list(evidence), actor, reason)
    row = Decision(
        decision_id=identity, flow=config.flow, ts=utcnow(), turn_id=turn_id, action="approve", candidate=candidate,
        live=live, actor=actor, evidence=list(evidence), text=reason,
    )  # fmt: skip
    lake.append("decisions", [row], app=f"decisions/{config.flow}/{identity}", version=0)
    return row


def _enough(row: Decision) -> bool:
    return any(reason.name == "primary_cases" and reason.passed for reason in row.reasons)
