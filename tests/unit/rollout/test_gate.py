"""The gate: every verdict, every missing number, and properties over many inputs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.config import GatePolicy
from flywheel.rollout.gate import GateInput, Lineage, SuiteEvidence, decide
from flywheel.rollout.shadow import ShadowSummary

POLICY = GatePolicy()
INSTRUMENTS = ["filter", "sweep", "reward", "training"]


def suite(name="random", n=700, gain=0.05, low=0.02, high=0.08) -> SuiteEvidence:
    return SuiteEvidence(suite=name, n=n, before=0.7, after=0.7 + gain, gain=gain, low=low, high=high)


def shadow(**changes) -> ShadowSummary:
    fields = {
        "candidate": "v2", "n": 150, "answered": 150, "errors": 0, "error_rate": 0.0, "agreement": 0.8,
        "live_latency_ms": 100.0, "candidate_latency_ms": 110.0, "latency_ratio": 1.1,
    }  # fmt: skip
    return ShadowSummary(**{**fields, **changes})


def lineage(**used) -> Lineage:
    return Lineage(
        judged_by=frozenset({"l1", "i1"}),
        used={**{name: frozenset() for name in INSTRUMENTS}, **{name: frozenset(ids) for name, ids in used.items()}},
    )


def given_(**changes) -> GateInput:
    fields = {
        "candidate": "v2", "live": "v1", "primary": suite(), "required_guards": ["old-intents"], "shadow": shadow(),
        "guards": {"old-intents": suite("old-intents", 1_000, -0.005, -0.012, 0.002)}, "leaks": 0, "erased": [],
        "lineage": lineage(),
    }  # fmt: skip
    return GateInput(**{**fields, **changes})


def guard(**changes) -> dict[str, SuiteEvidence]:
    return {"old-intents": suite("old-intents", **{"n": 1_000, "gain": 0.0, "low": -0.01, "high": 0.01, **changes})}


def failing(result) -> list[str]:
    return [reason.name for reason in result.reasons if reason.passed is False]


def test_everything_holds():
    result = decide(given_(), POLICY)
    assert result.verdict == "promote"
    assert all(reason.passed for reason in result.reasons)
    assert [reason.name for reason in result.reasons] == [
        "primary_cases", "primary_gain", "guard:old-intents", "complete_pairs", "shadow_pairs", "shadow_errors",
        "shadow_latency", "no_leaks", "no_erased_data", "separate_judges",
    ]  # fmt: skip
    assert "v2 may replace v1" in result.text


CASES = [
    ({"primary": suite(low=0.0)}, "reject", ["primary_gain"]),
    ({"primary": suite(gain=0.01, low=-0.02, high=0.04)}, "reject", ["primary_gain"]),
    ({"primary": suite(gain=-0.1, low=-0.2, high=-0.05)}, "reject", ["primary_gain"]),
    ({"primary": suite(n=400)}, "continue", ["primary_cases"]),
    ({"primary": suite(n=400, gain=0.01, low=-0.02, high=0.04)}, "continue", ["primary_cases", "primary_gain"]),
    ({"primary": suite(n=400, gain=-0.1, low=-0.2, high=-0.05)}, "reject", ["primary_cases", "primary_gain"]),
    ({"primary": None}, "inconclusive", []),
    ({"guards": guard(low=-0.021)}, "reject", ["guard:old-intents"]),
    ({"guards": guard(low=-0.02)}, "reject", ["guard:old-intents"]),
    ({"guards": guard(n=50)}, "continue", ["guard:old-intents"]),
    ({"guards": guard(n=50, gain=-0.3, low=-0.5, high=-0.1)}, "reject", ["guard:old-intents"]),
    ({"guards": {}}, "inconclusive", []),
    ({"guards": {"old-intents": None}}, "inconclusive", []),
    ({"guards": {**guard(), "tone": suite("tone", 500, -0.1, -0.2, -0.05)}}, "reject", ["guard:tone"]),
    ({"required_guards": [], "guards": {}}, "promote", []),
    ({"shadow": None}, "inconclusive", []),
    ({"shadow": shadow(n=99, answered=99)}, "continue", ["shadow_pairs"]),
    ({"shadow": shadow(n=0, answered=0, error_rate=None, latency_ratio=None)}, "inconclusive", ["shadow_pairs"]),
    ({"shadow": shadow(errors=10, error_rate=10 / 150)}, "reject", ["shadow_errors"]),
    ({"shadow": shadow(n=20, errors=2, error_rate=0.1)}, "continue", ["shadow_pairs", "shadow_errors"]),
    ({"shadow": shadow(latency_ratio=1.6)}, "reject", ["shadow_latency"]),
    ({"shadow": shadow(latency_ratio=None)}, "inconclusive", []),
    ({"leaks": 1}, "reject", ["no_leaks"]),
    ({"leaks": None}, "inconclusive", []),
    ({"erased": ["dataset/d1"]}, "reject", ["no_erased_data"]),
    ({"erased": None}, "inconclusive", []),
    ({"lineage": None}, "inconclusive", []),
    ({"lineage": lineage(sweep=["l1", "l9"])}, "reject", ["separate_judges"]),
    ({"lineage": lineage(reward=["l1"], filter=["i1"])}, "reject", ["separate_judges"]),
    ({"lineage": lineage(training=["i9"])}, "promote", []),
    ({"lineage": Lineage(judged_by=frozenset({"l1"}), used={"filter": frozenset()})}, "inconclusive", []),
    ({"lineage": Lineage(judged_by=frozenset(), used=lineage().used)}, "inconclusive", []),
    ({"primary": None, "leaks": 3}, "reject", ["no_leaks"]),
    ({"primary": None, "shadow": shadow(n=5)}, "inconclusive", ["shadow_pairs"]),
]


@pytest.mark.parametrize(("changes", "verdict", "failed"), CASES)
def test_verdicts(changes, verdict, failed):
    result = decide(given_(**changes), POLICY)
    assert (result.verdict, failing(result)) == (verdict, failed)
    for name in failed:
        assert verdict == "inconclusive" or name in result.text or verdict == "reject"


def test_a_shadow_can_be_waived_but_a_bad_one_still_counts():
    waived = POLICY.model_copy(update={"require_shadow": False})
    assert decide(given_(shadow=None), waived).verdict == "promote"
    assert decide(given_(shadow=shadow(latency_ratio=9)), waived).verdict == "reject"


def test_reasons_speak_to_people():
    result = decide(given_(lineage=lineage(sweep=["l1"], reward=["l1"])), POLICY)
    texts = {reason.name: reason.text for reason in result.reasons}
    assert (
        "right on 75.0%, the live model on 70.0% of 700: +5.0 points (+2.0 points to +8.0 points)"
        in texts["primary_gain"]
    )
    assert "reward (1), sweep (1)" in texts["separate_judges"]


def test_a_model_of_erased_data_is_refused_with_the_way_out():
    result = decide(given_(erased=["model/v2", "dataset/d1"]), POLICY)
    (reason,) = [reason for reason in result.reasons if reason.name == "no_erased_data"]
    assert (reason.passed, reason.measured) == (False, 2)
    assert "dataset/d1, model/v2" in reason.text
    assert "Run a new turn" in reason.text
    numbers = {reason.name: (reason.measured, reason.threshold, reason.interval) for reason in result.reasons}
    assert numbers["primary_gain"] == (0.05, 0.0, (0.02, 0.08))
    assert numbers["shadow_latency"] == (1.1, 1.5, None)


odd = st.sampled_from([math.nan, math.inf, -math.inf])
share = st.floats(-1, 1)
bounds = st.tuples(share, share, share).map(sorted)


@st.composite
def suites(draw, name="random"):
    low, gain, high = draw(bounds)
    return suite(name, draw(st.integers(1, 2_000)), gain, low, high)


@st.composite
def shadows(draw):
    n = draw(st.integers(0, 400))
    errors = draw(st.integers(0, n))
    ratio = draw(st.none() | st.floats(0, 5))
    return shadow(n=n, answered=n - errors, errors=errors, error_rate=errors / n if n else None, latency_ratio=ratio)


inputs = st.builds(
    given_,
    primary=suites(),
    guards=st.fixed_dictionaries({"old-intents": suites("old-intents")}),
    shadow=shadows(),
    leaks=st.integers(0, 2),
    erased=st.sampled_from([[], ["dataset/d1"]]),
    lineage=st.sampled_from([lineage(), lineage(sweep=["l1"]), lineage(training=["i7"])]),
)


@given(inputs)
def test_promotion_means_that_every_condition_was_measured_and_held(drawn):
    result = decide(drawn, POLICY)
    primary, old, seen = drawn.primary, drawn.guards["old-intents"], drawn.shadow
    holds = (
        primary.n >= 600 and primary.low > 0 and old.n >= 200 and old.low > -0.02 and seen.n >= 100
        and seen.error_rate <= 0.02 and seen.latency_ratio is not None and seen.latency_ratio <= 1.5
        and drawn.leaks == 0 and not drawn.erased
        and not any(ids & drawn.lineage.judged_by for ids in drawn.lineage.used.values())
    )  # fmt: skip
    assert (result.verdict == "promote") == bool(holds)


@given(inputs, st.sets(st.sampled_from(["primary", "guards", "shadow", "leaks", "erased", "lineage"]), min_size=1))
def test_no_missing_metric_ever_promotes(drawn, missing):
    gone = {name: {} if name == "guards" else None for name in missing}
    result = decide(drawn.model_copy(update=gone), POLICY)
    assert result.verdict in {"inconclusive", "reject"}
    assert any(reason.passed is None for reason in result.reasons)


@given(st.sampled_from(["gain", "low", "high", "before", "after"]), odd, st.booleans())
def test_no_number_that_is_not_one_ever_promotes(field, value, primary):
    bad = suite().model_copy(update={field: value})
    changes = {"primary": bad} if primary else {"guards": {"old-intents": bad}}
    assert decide(given_(**changes), POLICY).verdict == "inconclusive"


@given(odd, st.sampled_from(["error_rate", "latency_ratio"]))
def test_no_shadow_number_that_is_not_one_ever_promotes(value, field):
    assert decide(given_(shadow=shadow(**{field: value})), POLICY).verdict == "inconclusive"


@given(inputs, st.floats(0, 1))
def test_a_smaller_gain_never_helps(drawn, loss):
    worse = drawn.primary.model_copy(update={"gain": drawn.primary.gain - loss, "low": drawn.primary.low - loss})
    if decide(drawn.model_copy(update={"primary": worse}), POLICY).verdict == "promote":
        assert decide(drawn, POLICY).verdict == "promote"
