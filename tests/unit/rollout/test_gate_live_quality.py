"""The gate's condition about live traffic: silent unless asked, no by default once it is."""

import itertools

import pytest

from flywheel.config import GatePolicy
from flywheel.records import Reason
from flywheel.rollout.gate import GateInput, Lineage, SuiteEvidence, decide
from flywheel.rollout.live.result import LiveVerdict

ASKED = GatePolicy(require_live_quality=True, require_shadow=False)
NOT_ASKED = GatePolicy(require_shadow=False)


def verdict(state="no_worse", **changes) -> LiveVerdict:
    fields = {
        "flow": "f", "candidate": "v2", "live": "v1", "source": "shadow", "pairs": 900, "units": 800, "missing": 0,
        "mean": 0.01, "low": -0.02, "high": 0.04, "planned_units": 700, "state": state,
        "reasons": [Reason(name="quality:judge", passed=state != "worse", outcome="pass", text="Measured.")],
    }  # fmt: skip
    return LiveVerdict(**{**fields, **changes})


def given_(found: LiveVerdict | None) -> GateInput:
    suite = SuiteEvidence(suite="random", n=700, before=0.7, after=0.75, gain=0.05, low=0.02, high=0.08)
    used = {name: frozenset() for name in ("filter", "sweep", "reward", "training")}
    return GateInput(
        candidate="v2", live="v1", primary=suite, required_guards=[], shadow=None, leaks=0, erased=[], contamination=0,
        lineage=Lineage(judged_by=frozenset({"c"}), used=used), live_quality=found,
    )  # fmt: skip


def test_it_is_not_asked_about_by_default():
    for found in (None, verdict(), verdict("undecided"), verdict("better")):
        result = decide(given_(found), NOT_ASKED)
        assert result.verdict == "promote"
        assert "live_quality" not in {reason.name for reason in result.reasons}


def test_a_candidate_that_users_requests_show_to_be_worse_is_refused_in_any_case():
    for policy in (NOT_ASKED, ASKED):
        assert decide(given_(verdict("worse")), policy).verdict == "reject"


@pytest.mark.parametrize("state", ["better", "no_worse"])
def test_asked_for_and_shown_it_promotes(state):
    result = decide(given_(verdict(state)), ASKED)
    assert result.verdict == "promote"
    assert next(reason for reason in result.reasons if reason.name == "live_quality").interval == (-0.02, 0.04)


def test_what_is_missing_never_promotes():
    unmeasured = [Reason(name="quality", passed=None, outcome="missing", text="Nothing knows meaning.")]
    waiting = [Reason(name="quality:judge", passed=None, outcome="wait", text="Too few.")]
    cases = [
        (None, "inconclusive"),
        (verdict("undecided", reasons=waiting), "continue"),
        (verdict("undecided", reasons=unmeasured), "inconclusive"),
        (verdict(mean=None, low=None, high=None), "inconclusive"),
        (verdict(candidate="v3"), "inconclusive"),
        (verdict(live="v0"), "inconclusive"),
    ]
    for found, wanted in cases:
        assert decide(given_(found), ASKED).verdict == wanted


def test_reasons_say_what_failed_or_is_missing():
    text = {"fail": "It leaks.", "missing": "Nothing knows meaning.", "wait": "Too few.", "pass": "Quick enough."}
    for outcome, state in itertools.product(("fail", "missing", "wait"), ("worse", "undecided")):
        reasons = [
            Reason(name="a", passed=None, outcome=each, text=text[each]) for each in ("pass", outcome)
        ]  # fmt: skip
        told = decide(given_(verdict(state, reasons=reasons)), ASKED).reasons[-1].text
        if (outcome == "fail") == (state == "worse"):
            assert text[outcome] in told
        assert "Quick enough." not in told
