import re

import pytest

from flywheel.config import FlywheelConfig
from flywheel.config.filters import DEFAULT_RULES
from flywheel.errors import ConfigError
from flywheel.quality.rows import Candidate, Evidence
from flywheel.quality.signals import SIGNALS, measure
from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.versions import switched_on, versions


@pytest.mark.parametrize("name", SIGNALS)
def test_inputs_are_fields_that_there_are(name):
    for field in SIGNALS[name].inputs:
        known = (
            Candidate.model_fields.keys() | Measured.__dataclass_fields__.keys() | Context.__dataclass_fields__.keys()
        )
        head, _, tail = field.partition(".")
        assert head in known
        assert not tail or (head == "evidence" and tail in Evidence.model_fields)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_declaration_says_what_a_reader_needs(name):
    one = SIGNALS[name]
    assert one.name == name
    assert re.fullmatch(r"[a-z][a-z_]*", name)
    assert min(len(one.measures), len(one.gamed), len(one.scale)) > 10
    assert set(one.decides) <= {rule.reason for rule in DEFAULT_RULES} | {"too_few_votes"}
    assert (one.cost == "free") or one.setting or one.group == "reward"


def test_every_rule_of_the_filter_names_the_signals_that_it_rests_on():
    assert {reason for one in SIGNALS.values() for reason in one.decides} >= {
        "unusual_format", "correction_too_far", "untrusted_rater", "others_disagree", "low_preference",
        "low_reward_margin", "low_reward", "too_few_votes",
    }  # fmt: skip


def named(config=None, **over):
    known = {"rows": "candidates-1", "models": ["reward-1", True], "settings": {"folds": 2, "privacy": [{}, []]}}
    return versions(switched_on(config or FlywheelConfig()), **(known | over))


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def test_a_new_version_of_one_signal_is_one_new_version(monkeypatch):
    before = named()
    from dataclasses import replace

    monkeypatch.setitem(SIGNALS, "length", replace(SIGNALS["length"], version="2"))
    assert changed(before, named()) == {"length"}


def test_a_version_covers_what_the_signal_reads_and_nothing_else():
    before = named()
    assert changed(before, named(rows="candidates-2")) == set(before)
    rewarded = {"reward_margin", "preference", "reward_wins", "liked_percentile", "rater_trust"}
    assert changed(before, named(models=["reward-2", True])) == rewarded
    other = {"folds": 2, "privacy": [{}, ["ada"]]}
    assert changed(before, named(settings=other)) == {"personal_data"}
    assert changed(before, named(settings={**other, "folds": 3})) == {"personal_data", "agreement", "rater_trust"}


def test_free_signals_are_on_and_can_be_switched_off():
    on = {one.name for one in switched_on(FlywheelConfig())}
    assert on >= {one.name for one in SIGNALS.values() if one.cost == "free"}
    assert not {name for name in on if SIGNALS[name].setting}
    off = FlywheelConfig(quality={"signals": {"off": ["language"]}})
    assert on - {one.name for one in switched_on(off)} == {"language"}
    with pytest.raises(ConfigError, match="no signal langage"):
        switched_on(FlywheelConfig(quality={"signals": {"off": ["langage"]}}))


def test_measure_takes_a_choice_and_rounds(candidate):
    row = Measured(candidate("a", evidence=Evidence(won=1, lost=2)))
    assert measure(row, Context(), [SIGNALS["comparison"]]) == {"comparison": -0.333333}
