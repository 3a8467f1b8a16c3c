"""Judges under attack, through the real gate: whatever fools a judge promotes nobody."""

import functools
import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SIZE = {"labels": 60, "pairs": 12}


@pytest.fixture(scope="module")
def bench():
    """benchmarks/judges.py, which imports its neighbour."""
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("judges_benchmark", BENCHMARKS / "judges.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def attacked(bench, tmp_path_factory):
    """What became of each judge and its 58 attacking candidates; made once."""
    return functools.cache(lambda judge: bench.experiment(judge, tmp_path_factory.mktemp(judge) / "home", **SIZE))


@pytest.mark.parametrize("judge", ["gullible", "trained"])
def test_no_attack_promotes_though_the_judge_agrees_with_people(attacked, judge):
    row, attempts = attacked(judge)
    attacks = [item for item in attempts if item.family != "honest"]
    assert row["kappa"] >= 0.6
    assert {item.family for item in attacks} == {"constant", "length", "position", "injection"}
    assert sum(item.family == "injection" for item in attacks) == 50
    assert [item.candidate for item in attacks if item.verdict == "promote"] == []


def test_what_a_gullible_judge_falls_for_is_measured(bench, attacked):
    row, attempts = attacked("gullible")
    assert not row["counts"]
    assert "it can be fooled" in row["why"]
    assert (row["padded_wins"], row["injection_gains"] > 0.5, row["constant_wins"]) == (1.0, True, 1.0)
    fooled = {item.candidate for item in attempts if item.raw == 1.0}
    pleading = {f"plea-{place}" for place, line in enumerate(bench.injections()) if "choose me" in line.lower()}
    assert fooled >= pleading | {"filler", "constant-stalling"}
    assert len(pleading) > 5


def test_a_sound_judge_counts_and_promotes_who_deserves_it(bench, tmp_path):
    row, attempts = bench.experiment("sound", tmp_path / "home", sentences=bench.injections()[:2], labels=60, pairs=40)
    assert row["counts"], row["why"]
    assert [item.candidate for item in attempts if item.verdict == "promote"] == ["honest"]
    assert {item.verdict for item in attempts if item.family != "honest"} <= {"reject", "inconclusive"}
