"""The language of filters, and that the shipped one decides as the functions did that it replaced."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.config import FilterConfig, load
from flywheel.config.filters import DEFAULT_RULES, PARAMETERS, FilterRule
from flywheel.errors import ConfigError
from flywheel.quality.filters import Columns, first_failures, passing, verdicts, votes
from flywheel.quality.filters_check import check_filter
from flywheel.quality.filters_weights import weigh
from flywheel.quality.rows import Drop

FAILS = {
    "unusual_format": ({}, {"format": 0.5}),
    "correction_too_far": ({"max_correction_distance": 0.5}, {"correction_distance": 0.9}),
    "untrusted_rater": ({"min_rater_trust": 0.5}, {"rater_trust": 0.4}),
    "others_disagree": ({"min_agreement": 0.3}, {"agreement": 0.2}),
    "low_preference": ({"min_preference": 0.3}, {"preference": 0.2}),
    "low_reward_margin": ({"min_reward_margin": 1.0}, {"reward_margin": 0.5}),
    "low_reward": ({"min_liked_reward": 0.2}, {"liked_percentile": 0.1}),
    "too_few_votes": ({"min_votes": 2}, {"agreement": 0.9}),
}
REASONS = [*(rule.reason for rule in DEFAULT_RULES), "too_few_votes"]


def test_every_rule_has_a_case_and_every_threshold_is_one_of_the_filter():
    assert list(FAILS) == REASONS
    assert set(PARAMETERS) <= set(FilterConfig.model_fields)


@pytest.mark.parametrize("reason", REASONS)
def test_reason(reason, candidate):
    config, signals = FAILS[reason]
    origin = "liked" if reason in ("low_reward", "too_few_votes") else "correction"
    columns = Columns.of([candidate("a", origin=origin)], {"a": signals})
    config = {"min_votes": 0} | config
    assert verdicts(columns, FilterConfig(**config)) == [Drop(inference_id="a", reason=reason)]
    assert not passing(columns, FilterConfig(**config))[0]
    assert passing(columns, FilterConfig(enabled=False, **config))[0]


def test_what_was_not_measured_neither_passes_nor_fails(candidate):
    strict = FilterConfig(min_preference=0.9, min_agreement=0.9, min_rater_trust=0.9, min_votes=0)
    assert passing(Columns.of([candidate("a")], {}), strict)[0]


def test_columns_and_verdicts_agree(colours):
    rows, _ = colours(50)
    signals = {row.inference_id: {"agreement": i / 50, "explicit": (-1) ** i} for i, row in enumerate(rows)}
    columns, config = Columns.of(rows, signals), FilterConfig(min_agreement=0.4, min_votes=2)
    kept = [not isinstance(verdict, Drop) for verdict in verdicts(columns, config)]
    assert kept == passing(columns, config).tolist()
    assert 0 < sum(kept) < 50


# --- as it was before filters were files: functions, one a rule, in the order of the reasons ---


def _before(signal, correction, config):
    def at_least(values, bound):
        return np.isnan(values) | (values >= bound)

    approved = np.zeros(len(correction), dtype=int)
    for name, bar in (("explicit", 0.0), ("engagement", 0.5), ("agreement", 0.5), ("preference", 0.5),
                      ("rater_trust", 0.5)):  # fmt: skip
        said = signal[name] > bar
        approved += said | correction if name == "explicit" else said
    return {
        "unusual_format": at_least(signal["format"], 1.0 if config.require_format else 0.0),
        "correction_too_far": at_least(-signal["correction_distance"], -config.max_correction_distance),
        "untrusted_rater": at_least(signal["rater_trust"], config.min_rater_trust),
        "others_disagree": at_least(signal["agreement"], config.min_agreement),
        "low_preference": at_least(signal["preference"], config.min_preference),
        "low_reward_margin": ~correction | at_least(signal["reward_margin"], config.min_reward_margin),
        "low_reward": correction | at_least(signal["liked_percentile"], config.min_liked_reward),
        "too_few_votes": approved >= config.min_votes,
    }


SIGNALS = ("format", "correction_distance", "rater_trust", "agreement", "preference", "reward_margin",
           "liked_percentile", "explicit", "engagement")  # fmt: skip
GRID = st.sampled_from([float("nan"), -2.0, 0.0, 0.2, 0.3, 0.5, 0.9, 1.0, 4.0])
CONFIGS = st.builds(
    FilterConfig,
    min_reward_margin=st.sampled_from([-2.0, 0.0, 0.5]),
    min_liked_reward=st.sampled_from([0.0, 0.2, 0.5]),
    min_preference=st.sampled_from([0.0, 0.3, 0.9]),
    min_agreement=st.sampled_from([0.0, 0.2, 0.9]),
    max_correction_distance=st.sampled_from([0.2, 0.5, 1.0]),
    min_rater_trust=st.sampled_from([0.0, 0.3, 0.5]),
    min_votes=st.integers(0, 5),
    require_format=st.booleans(),
)


@given(st.data(), CONFIGS)
@settings(max_examples=40, deadline=None)
def test_the_shipped_filter_decides_as_the_functions_did(data, config):
    """Values lie on a grid that has every bound on it, so equality is met as often as either side."""
    rows = data.draw(st.lists(st.tuples(st.booleans(), *([GRID] * len(SIGNALS))), min_size=1, max_size=30))
    correction = np.array([row[0] for row in rows])
    signals = {name: np.array([row[i + 1] for row in rows]) for i, name in enumerate(SIGNALS)}
    columns = Columns([str(i) for i in range(len(rows))], correction, signals)
    old = _before(signals, correction, config)
    assert passing(columns, config).tolist() == np.logical_and.reduce(list(old.values())).tolist()
    first = [next((reason for reason, passes in old.items() if not passes[i]), None) for i in range(len(rows))]
    new = [verdict.reason if isinstance(verdict, Drop) else None for verdict in verdicts(columns, config)]
    assert new == first


def columns(values, correction=None, signal="x"):
    correction = np.array(correction or [False] * len(values))
    return Columns([str(i) for i in range(len(values))], correction, {signal: np.array(values)})


def only(**rule):
    return FilterConfig(min_votes=0, rules=[{"signal": "x", "reason": "bad", **rule}])


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"at_least": 0.5}, [False, True, True, True]),
        ({"at_most": 0.5}, [True, True, False, True]),
        ({"between": [0.2, 0.5]}, [False, True, False, True]),
        ({"equals": 0.5}, [False, True, False, True]),
        ({"at_least": 0.5, "missing": "fail"}, [False, True, True, False]),
        ({"at_most": 0.5, "missing": "fail"}, [True, True, False, False]),
        ({"between": [0.2, 0.5], "missing": "fail"}, [False, True, False, False]),
        ({"at_least": "min_agreement"}, [False, True, True, True]),
        ({"at_least": 9.0, "for": "corrections"}, [True, False, True, True]),
        ({"at_least": 9.0, "for": "liked"}, [False, True, False, True]),
    ],
)
def test_conditions(rule, kept):
    rows = columns([0.1, 0.5, 0.9, float("nan")], [False, True, False, False])
    assert passing(rows, only(**rule)).tolist() == kept


def test_a_signal_that_no_row_has_fails_only_where_the_rule_says_so():
    rows = columns([1.0, 1.0], signal="other")
    assert passing(rows, only(at_least=0.5)).all()
    codes, reasons = first_failures(rows, only(at_least=0.5, missing="fail"))
    assert [reasons[code] for code in codes] == ["bad", "bad"]


def test_signals_of_one_group_have_one_vote():
    config = FilterConfig(votes={"k": 2, "of": [
        {"signal": "reward", "above": 0.5, "group": "model"}, {"signal": "ensemble", "above": 0.5, "group": "model"},
        {"signal": "toxicity", "below": 0.1},
    ]})  # fmt: skip
    signals = {"reward": [0.9, 0.9, 0.1], "ensemble": [0.9, 0.1, 0.9], "toxicity": [0.5, 0.0, float("nan")]}
    rows = Columns(["a", "b", "c"], np.zeros(3, bool), {name: np.array(v) for name, v in signals.items()})
    assert votes(rows, config.votes).tolist() == [1, 2, 1]
    assert passing(rows, config).tolist() == [False, True, False]


def test_weights_follow_the_signal_and_are_clipped():
    config = FilterConfig(
        weights={"least": 0.2, "of": [{"signal": "x", "zero_at": 0.0, "one_at": 0.5, "missing": 0.6}]}
    )
    assert weigh(columns([-1.0, 0.05, 0.25, 0.9, float("nan")]), config.weights).tolist() == [0.2, 0.2, 0.5, 1.0, 0.6]
    falling = FilterConfig(weights={"of": [{"signal": "x", "zero_at": 1.0, "one_at": 0.0}]})
    assert weigh(columns([0.25, 2.0]), falling.weights).tolist() == [0.75, 0.1]
    assert weigh(columns([0.25]), None).tolist() == [1.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules:\n- signal: a\n  at_lest: 1\n  reason: a\n", r"'rules\.0\.at_lest' \(line 3\); .* 'at_least'"),
        ("rules:\n- {signal: a, reason: b}\n", r"'rules\.0' \(line 2\): a rule states exactly one of .* none of them"),
        ("rules:\n- {signal: a, at_least: 1, at_most: 2, reason: b}\n", r"this one has at_least and at_most"),
        ("rules:\n- signal: a\n  at_least: min_agrement\n  reason: b\n", r"line 3\).*did you mean 'min_agreement'"),
        ("rules:\n- {signal: a, at_least: 1, reason: duplicate}\n", "given by another step"),
        ("rules:\n- {signal: a, at_least: 1, reason: b}\n- {signal: c, at_most: 1, reason: b}\n", "b is given twice"),
        ("rules:\n- {signal: a, between: [2, 1], reason: b}\n", "from low to high"),
        ("votes: {k: 3, of: [{signal: a, above: 1}]}\n", "k is 3, but there are 1 groups"),
        ("version: x\nmin_votes: 6\n", "5 groups vote, so no row could ever pass"),
        ("votes: {of: [{signal: a}]}\n", "either above or below"),
        ("weights: {of: [{signal: a, zero_at: 1, one_at: 1}]}\n", "make it a rule"),
        ("weights: {least: 0.0, of: [{signal: a, zero_at: 0, one_at: 1}]}\n", r"weights\.least"),
    ],
)  # fmt: skip
def test_a_bad_filter_file_is_told_file_place_and_remedy(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load(FilterConfig, path)
    assert "mine.yaml" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_rule_is_written_as_it_is_read():
    written = FilterConfig().model_dump(mode="json")
    assert written["rules"][5]["for"] == "corrections"
    assert FilterConfig.model_validate(written) == FilterConfig()
    assert FilterRule.model_validate(written["rules"][0]) == DEFAULT_RULES[0]


def test_the_shipped_file_says_everything_and_nothing_else_than_the_default_but_for_two_thresholds():
    path = Path(__file__).parents[3] / "configs/local/filter.yaml"
    assert set(yaml.safe_load(path.read_text())) == set(FilterConfig.model_fields)
    shipped = load(FilterConfig, path)
    check_filter(shipped)
    assert shipped == FilterConfig(version="local-1", min_agreement=0.3, min_rater_trust=0.3)


def test_a_signal_that_nothing_measures_is_an_error_and_not_a_rule_that_passes_all():
    with pytest.raises(ConfigError, match=r"rules\.0 \(bad\) reads the signal 'agrement'.*did you mean 'agreement'"):
        check_filter(FilterConfig(rules=[{"signal": "agrement", "at_least": 0.5, "reason": "bad"}]))
    with pytest.raises(ConfigError, match=r"mine\.yaml: votes\.of\.0 .*'zzz', which nothing measures; signals: "):
        check_filter(FilterConfig(votes={"k": 1, "of": [{"signal": "zzz", "above": 0}]}), "mine.yaml")
    with pytest.raises(ConfigError, match=r"weights\.of\.0"):
        check_filter(FilterConfig(weights={"of": [{"signal": "zzz", "zero_at": 0, "one_at": 1}]}))
