"""The gate: every verdict, every missing number, and properties over many inputs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.config import GatePolicy, GuardPolicy
from flywheel.judging.evidence import JudgeEvidence
from flywheel.rollout.gate import Agreement, Change, GateInput, Lineage, SuiteEvidence, decide
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
        "contamination": 0, "lineage": lineage(),
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
        "shadow_latency", "no_leaks", "no_contamination", "no_erased_data", "separate_judges",
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
    ({"guards": {"old-intents": None}, "unmade_guards": {"old-intents": "one live model"}}, "promote", []),
    ({"guards": guard(low=-0.021), "unmade_guards": {"old-intents": "?"}}, "reject", ["guard:old-intents"]),
    ({"guards": {}, "unmade_guards": {"regression": "one live model"}}, "inconclusive", []),
    ({"shadow": None}, "inconclusive", []),
    ({"shadow": shadow(n=99, answered=99)}, "continue", ["shadow_pairs"]),
    ({"shadow": shadow(n=0, answered=0, error_rate=None, latency_ratio=None)}, "inconclusive", ["shadow_pairs"]),
    ({"shadow": shadow(errors=10, error_rate=10 / 150)}, "reject", ["shadow_errors"]),
    ({"shadow": shadow(n=20, errors=2, error_rate=0.1)}, "continue", ["shadow_pairs", "shadow_errors"]),
    ({"shadow": shadow(latency_ratio=1.6)}, "reject", ["shadow_latency"]),
    ({"shadow": shadow(latency_ratio=None)}, "inconclusive", []),
    ({"leaks": 1}, "reject", ["no_leaks"]),
    ({"contamination": 1}, "reject", ["no_contamination"]),
    ({"contamination": -1}, "reject", ["no_contamination"]),
    ({"leaks": None}, "inconclusive", []),
    ({"contamination": None}, "inconclusive", []),
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
    contamination=st.integers(0, 2),
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
        and drawn.leaks == 0 and drawn.contamination == 0 and not drawn.erased
        and not any(ids & drawn.lineage.judged_by for ids in drawn.lineage.used.values())
    )  # fmt: skip
    assert (result.verdict == "promote") == bool(holds)


@given(
    inputs,
    st.sets(
        st.sampled_from(["primary", "guards", "shadow", "leaks", "contamination", "erased", "lineage"]), min_size=1
    ),
)
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


def judge(**changes) -> JudgeEvidence:
    return JudgeEvidence(**{"judge": "j", "counts": True, "why": "kappa 0.8", "n": 200, "rate": 0.6,
                            "interval": (0.52, 0.68), **changes})  # fmt: skip


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        (judge(), "promote"),
        (judge(interval=(0.485, 0.7)), "promote"),
        (judge(counts=False, why="it can be fooled"), "inconclusive"),
        (judge(counts=False, rate=0.1, interval=(0.05, 0.2)), "inconclusive"),
        (judge(interval=(0.4, 0.7)), "reject"),
        (judge(n=50), "continue"),
        (judge(n=50, interval=(0.4, 0.7)), "continue"),
        (judge(n=50, interval=(0.1, 0.3)), "reject"),
        (judge(n=0, rate=None, interval=None), "continue"),
        (judge(rate=None, interval=None), "inconclusive"),
        (judge(n=None, rate=None, interval=None), "promote"),  # it only marked cases of suites
        (None, "promote"),
    ],
)
def test_a_judge_stops_a_candidate_and_promotes_none_alone(word, verdict):
    assert decide(given_(judge=word), POLICY).verdict == verdict
    assert decide(given_(judge=word, primary=suite(gain=-0.05, low=-0.08, high=-0.02)), POLICY).verdict == "reject"


def test_a_required_judge_must_have_compared():
    strict = GatePolicy(require_judge=True)
    assert decide(given_(judge=judge()), strict).verdict == "promote"
    assert decide(given_(), strict).verdict == "continue"
    assert decide(given_(judge=judge(n=None, rate=None, interval=None)), strict).verdict == "continue"


def verdict_of(policy=None, **changes):
    result = decide(given_(**changes), POLICY.model_copy(update=policy or {}))
    return result.verdict, {reason.name: reason.outcome for reason in result.reasons}


def change(value, spread, n=700, before=100.0):
    return Change(n=n, before=before, after=before * value, value=value, low=value - spread, high=value + spread)


LIMITS = [
    ("max_token_ratio", 1.2, "tokens", "token_cost", 1.1, 1.25, 1.19),
    ("max_offline_latency_ratio", 1.5, "latency", "offline_latency", 1.0, 1.6, 1.49),
    ("max_length_ratio", 1.5, "length", "longer_answers", 1.2, 1.8, 1.49),
    ("min_length_ratio", 0.5, "length", "shorter_answers", 0.9, 0.3, 0.51),
    ("max_empty_increase", 0.02, "empty", "empty_answers", 0.0, 0.06, 0.015),
    ("max_refusal_increase", 0.02, "refusals", "refusals", 0.0, 0.06, 0.015),
]


@pytest.mark.parametrize(("setting", "limit", "measure", "name", "good", "bad", "near"), LIMITS)
def test_each_limit_on_how_answers_change(setting, limit, measure, name, good, bad, near):
    policy = {setting: limit}
    assert name not in verdict_of(behaviour={measure: change(bad, 0.01)})[1]  # not asked about
    assert verdict_of(policy)[0] == "inconclusive"
    assert verdict_of(policy, behaviour={measure: change(math.nan, 0)})[1][name] == "missing"
    assert verdict_of(policy, behaviour={measure: change(good, 0.01)}) == (
        "promote", verdict_of(policy, behaviour={measure: change(good, 0.01)})[1] | {name: "pass"}
    )  # fmt: skip
    assert verdict_of(policy, behaviour={measure: change(bad, 0.01)})[0] == "reject"
    assert verdict_of(policy, behaviour={measure: change(near, 0.03)})[0] == "reject"  # not shown to be within
    few = verdict_of(policy, behaviour={measure: change(near, 0.03, n=100)})
    assert (few[0], few[1][name]) == ("continue", "wait")
    assert verdict_of(policy, behaviour={measure: change(bad, 0.01, n=100)})[1][name] == "fail"


def test_a_suite_with_limits_of_its_own():
    policy = {"guards": {"safety": GuardPolicy(max_loss=0.005, min_cases=50)}}
    assert verdict_of(policy)[0] == "inconclusive"  # the policy asks for it, and it was not measured
    safe = suite("safety", 60, 0.0, -0.004, 0.01)
    assert verdict_of(policy, guards={**guard(), "safety": safe})[0] == "promote"
    worse = suite("safety", 60, 0.0, -0.006, 0.01)
    assert verdict_of(policy, guards={**guard(), "safety": worse})[0] == "reject"
    assert verdict_of(guards={**guard(), "safety": worse})[0] == "continue"  # 60 cases are few by the general rule


def test_missing_pairs_are_not_known_to_be_right():
    torn = suite().model_copy(update={"unpaired": 40})
    assert verdict_of(primary=torn) == ("inconclusive", verdict_of()[1] | {"complete_pairs": "missing"})
    failed = suite("old-intents", 1_000, 0.0, -0.01, 0.01).model_copy(update={"failed": 30})
    result = decide(given_(guards={"old-intents": failed}), POLICY)
    assert result.verdict == "inconclusive"
    assert "30 of 1000 cases of suite 'old-intents' lack an answer" in str(result.reasons)
    assert verdict_of({"max_unpaired_share": 0.1}, primary=torn)[0] == "promote"


def test_a_second_look_needs_an_interval_that_holds_for_it():
    assert verdict_of(earlier_looks=1) == ("inconclusive", verdict_of()[1] | {"one_look": "missing"})
    assert verdict_of(earlier_looks=3, sequential=True)[0] == "promote"


@pytest.mark.parametrize(
    ("n", "low", "high", "verdict"),
    [
        (700, 0.001, 0.08, "promote"),
        (700, -0.02, 0.08, "continue"),  # across its threshold: more cases may decide
        (700, -0.05, 0.0, "reject"),  # all of it on the wrong side
        (2_000, -0.02, 0.08, "reject"),  # enough was seen
        (2_000, 0.001, 0.08, "promote"),
    ],
)
def test_a_sequence_waits_until_it_decides_or_enough_was_seen(n, low, high, verdict):
    found = verdict_of({"max_primary_cases": 2_000}, sequential=True, primary=suite(n=n, gain=0.0, low=low, high=high))
    assert found[0] == verdict


def test_under_a_sequence_guards_wait_as_long_as_the_primary_suite_may_grow():
    wide = guard(low=-0.03, high=0.02)
    assert verdict_of(sequential=True, guards=wide)[0] == "continue"
    assert verdict_of({"max_primary_cases": 700}, sequential=True, guards=wide)[0] == "reject"
    assert verdict_of(sequential=True, guards=guard(low=-0.2, high=-0.03))[0] == "reject"


def test_the_filter_must_agree_with_audit_labels_where_the_policy_asks():
    asks = {"min_audit_agreement": 0.6}
    assert verdict_of()[0] == "promote"
    assert verdict_of(asks)[1]["audit_agreement"] == "missing"
    assert verdict_of(asks, audit=Agreement(n=50, rate=0.8, low=0.7, high=0.9))[0] == "promote"
    assert verdict_of(asks, audit=Agreement(n=50, rate=0.65, low=0.5, high=0.8))[0] == "reject"
    assert verdict_of(asks, audit=Agreement(n=9, rate=0.65, low=0.5, high=0.8))[0] == "continue"
    assert verdict_of(asks, audit=Agreement(n=9, rate=0.1, low=0.0, high=0.3))[0] == "reject"


def test_a_person_has_the_last_word_and_not_the_only_one():
    asks = {"require_approval": True}
    assert verdict_of(asks) == ("continue", verdict_of()[1] | {"approval": "wait"})
    assert verdict_of(asks, approved_by="ada")[0] == "promote"
    assert verdict_of(asks, approved_by="ada", leaks=2)[0] == "reject"


def test_the_makers_that_share_data_are_named_with_where_it_is_written():
    seen = lineage(sweep=["l1"]).model_copy(update={"sources": {"sweep": ["filter/f1"]}})
    assert seen.overlap() == {"sweep": ["l1"]}
    result = decide(given_(lineage=seen), POLICY)
    assert "sweep (1) from filter/f1" in result.reasons[-1].text
