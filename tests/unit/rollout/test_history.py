"""Looks and approvals: what counts as the same evidence."""

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.config import FlywheelConfig
from flywheel.lake.tables import open_lake
from flywheel.records import Decision, Reason
from flywheel.rollout import history

NOW = datetime(2026, 11, 20, tzinfo=UTC)
RUNS = ["eval-1", "eval-2", "cases-1"]
MORE = ["eval-1", "eval-2", "cases-2"]


def row(evidence, *, action="gate", candidate="v2", live="v1", enough=True, minutes=0):
    reasons = [Reason(name="primary_cases", passed=enough, text="n")]
    return Decision(
        decision_id=f"d{minutes}", flow="triage", ts=NOW + timedelta(minutes=minutes), action=action,
        candidate=candidate, live=live, evidence=evidence, reasons=reasons, actor=f"person {minutes}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "looks"),
    [
        ([], 0),
        ([row(RUNS)], 0),  # the same look again
        ([row(MORE)], 1),
        ([row(MORE), row(MORE, minutes=1), row(["a", "b", "c"], minutes=2)], 2),
        ([row(MORE, enough=False)], 0),
        ([row(MORE, candidate="v3")], 0),
        ([row(MORE, live="v0")], 0),
        ([row(MORE, action="approve")], 0),
        ([row([])], 0),  # decided before evidence was written down
    ],
)
def test_other_cases_that_could_have_promoted_are_looks(rows, looks):
    assert history.earlier_looks(rows, candidate="v2", live="v1", evidence=RUNS) == looks


def test_an_approval_is_of_one_candidate_on_one_evidence():
    rows = [row(RUNS, action="approve", minutes=1), row(RUNS, action="approve", minutes=2), row(RUNS, minutes=3)]
    found = history.approval(rows, candidate="v2", evidence=RUNS)
    assert found is not None
    assert found.actor == "person 2"
    assert history.approval(rows, candidate="v2", evidence=MORE) is None
    assert history.approval(rows, candidate="v3", evidence=RUNS) is None


def test_an_approval_is_stored_once_and_read_back(tmp_path):
    config = FlywheelConfig(home=tmp_path)
    lake = open_lake(config)
    say = {"turn_id": "turn-0001", "candidate": "v2", "live": "v1", "evidence": RUNS, "actor": "ada"}
    for reason in ("fine", "fine", "still fine"):
        history.record_approval(lake, config, reason=reason, **say)
    rows = history.decisions(lake, "triage")
    assert [(one.action, one.text, one.evidence) for one in rows] == [
        ("approve", "fine", RUNS), ("approve", "still fine", RUNS),
    ]  # fmt: skip
