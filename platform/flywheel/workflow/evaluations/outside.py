"""Which evaluation cases may be sent to a service outside the cluster, as consent stands now."""

from __future__ import annotations

from collections.abc import Sequence

from flywheel.capture.consent import allowed, latest
from flywheel.config import FlywheelConfig
from flywheel.lake.tables import Lake
from flywheel.records import Consent, EvalCase, Inference, utcnow


def may_leave(lake: Lake, config: FlywheelConfig, cases: Sequence[EvalCase]) -> list[EvalCase]:
    """The team's own cases, and those made of traffic whose people agreed to ``third_party``.

    A case is the team's own if it names neither an inference nor a person. One whose inference is gone, or that
    names a person only, needs a standing grant of that person.
    """
    if not any(_of_traffic(case) for case in cases):
        return list(cases)
    now = utcnow()
    statements = latest(lake.records("consents", Consent, flow=config.flow), "third_party", now)
    asked = {row.inference_id: row for row in lake.records("inferences", Inference, flow=config.flow)}

    def may(case: EvalCase) -> bool:
        if not _of_traffic(case):
            return True
        row = asked.get(case.inference_id or "")
        subject = row.subject if row else case.subject
        return allowed(
            "third_party",
            row_ts=row.ts if row else now,
            row_consent=row.consent if row else (),
            statement=statements.get(subject or ""),
            now=now,
        )

    return [case for case in cases if may(case)]


def _of_traffic(case: EvalCase) -> bool:
    return bool(case.inference_id or case.session_id or case.subject)
