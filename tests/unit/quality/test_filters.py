import pytest

from flywheel.config import FilterConfig
from flywheel.quality.filters import RULES, Columns, passing, verdicts
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


def test_every_rule_has_a_case():
    assert set(FAILS) == set(RULES)


@pytest.mark.parametrize("reason", RULES)
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
