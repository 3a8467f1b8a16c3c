"""Shares of liked and of older rows, and the weights that curation gives examples."""

from collections import Counter
from datetime import UTC, datetime

from flywheel.config import FilterConfig
from flywheel.lake.manifests import Manifest
from flywheel.quality.curate import select, to_example
from flywheel.quality.replay import learnt_before
from flywheel.quality.rows import TUNE

WORDS = ["amber", "bison", "cedar", "dune", "ember", "fjord", "grove", "heron", "iris", "jade", "kelp", "lotus"]


def rows(candidate, count, **over):
    """Corrections whose prompts have nothing in common."""
    return [
        candidate(f"{i:03d}", f"{WORDS[i % 12] * 3} {WORDS[i // 12] * 4} {i}", origin="correction", **over)
        for i in range(count)
    ]


def chosen(some, older, *, most=1000, seed=0, signals=None, **config):
    config = FilterConfig(**{"min_votes": 0, "near_duplicate_jaccard": 1.0} | config)
    result = select(some, signals or {}, config, max_examples=most, seed=seed, older=older)
    assert len(result.kept) + len(result.drops) == len(some)
    return result


def ages(result, older):
    return Counter("older" if row.inference_id in older else "new" for row in result.kept)


def test_without_a_share_older_and_new_rows_compete_alike(candidate):
    some = rows(candidate, 40)
    older = {row.inference_id for row in some[:30]}
    assert chosen(some, older) == chosen(some, set())


def test_older_rows_are_a_share_of_the_new_ones_drawn_by_hash(candidate):
    some = rows(candidate, 60)
    older = {row.inference_id for row in some[:40]}
    result = chosen(some, older, older_per_new=0.5)
    assert ages(result, older) == {"new": 20, "older": 10}
    assert {drop.reason for drop in result.drops} == {"over_older_share"}
    assert result.drops[0].detail.endswith("of 40, 10 stay")
    assert result == chosen(some, older, older_per_new=0.5)
    drawn = {row.inference_id for row in result.kept} & older
    assert drawn != {row.inference_id for row in chosen(some, older, older_per_new=0.5, seed=1).kept} & older
    assert drawn != set(sorted(older)[:10])


def test_a_full_dataset_keeps_the_share_and_not_the_easiest_rows(candidate):
    some = rows(candidate, 100)
    older = {row.inference_id for row in some[:50]}
    signals = {row.inference_id: {"preference": 0.9 if row.inference_id in older else 0.6} for row in some}
    result = chosen(some, older, most=40, older_per_new=0.25, signals=signals)
    assert ages(result, older) == {"new": 32, "older": 8}
    assert Counter(drop.reason for drop in result.drops) == {"over_older_share": 42, "over_max_examples": 18}
    assert ages(chosen(some, older, most=40, signals=signals), older) == {"older": 40}  # without: what is easy wins


def test_without_new_rows_there_is_nothing_new_to_learn(candidate):
    some = rows(candidate, 5)
    assert not chosen(some, {row.inference_id for row in some}, older_per_new=1.0).kept


def test_an_older_row_passes_todays_exclusions_and_rules_or_stays_out(candidate):
    held, bad, fine, new = rows(candidate, 4)
    held = held.model_copy(update={"held_out": TUNE})
    older = {"000", "001", "002", "a row that is not among the candidates any more"}
    result = chosen([held, bad, fine, new], older, older_per_new=5.0, signals={"001": {"agreement": 0.0}})
    assert [row.inference_id for row in result.kept] == ["002", "003"]
    assert {drop.inference_id: drop.reason for drop in result.drops} == {"000": "held_out", "001": "others_disagree"}


def test_learnt_before_is_what_the_datasets_among_the_ancestors_name():
    def manifest(kind, name, data):
        return Manifest(kind=kind, id=name, flow="f", created=datetime(2026, 1, 1, tzinfo=UTC), code_version="c",
                        config_hash="h", seed=0, data=data)  # fmt: skip

    ancestors = [
        manifest("model", "v2", {}),
        manifest("dataset", "d1", {"rows": [["ex-1", ["a", "b"], "mac"], ["ex-2", ["c"], "mac"]]}),
        manifest("reward", "r1", {"rows": [["x"]]}),
    ]
    assert learnt_before(ancestors) == {"a", "b", "c"}


def test_weights_reach_the_examples_and_their_ids(candidate):
    some = rows(candidate, 3)
    signals = {"000": {"agreement": 0.9}, "001": {"agreement": 0.5}}
    weights = {"of": [{"signal": "agreement", "zero_at": 0.0, "one_at": 1.0}]}
    result = chosen(some, set(), signals=signals, weights=weights)
    assert result.weights == {"000": 0.9, "001": 0.5, "002": 1.0}
    plain, light = to_example(some[0]), to_example(some[0], 0.5)
    assert (plain.weight, light.weight) == (1.0, 0.5)
    assert plain.example_id == to_example(some[0], 1.0).example_id != light.example_id
    assert chosen(some, set(), signals=signals).weights == {}


def test_a_capped_row_says_its_place(candidate):
    result = chosen(rows(candidate, 5, rater="one"), set(), max_per_subject=3)
    assert sorted(drop.detail for drop in result.drops) == ["place 4 of 5, 3 stay", "place 5 of 5, 3 stay"]


def test_what_was_taught_is_a_share_of_the_other_rows_and_meets_no_rule(candidate):
    some, taught = rows(candidate, 40), rows(lambda key, *rest, **over: candidate(f"t{key}", *rest, **over), 60)
    rules = FilterConfig(min_votes=0, near_duplicate_jaccard=1.0, taught_per_other=0.5, max_per_subject=40)
    worst = {row.inference_id: {"agreement": 0.0} for row in taught}

    def result(most=1000, config=rules, seed=0):
        chosen = select(some, worst, config, max_examples=most, seed=seed, taught=taught)
        assert len(chosen.kept) + len(chosen.drops) == len(some) + len(taught)
        return chosen, {row.inference_id for row in chosen.kept if row.inference_id.startswith("t")}

    chosen, again = result()
    assert (len(chosen.kept), len(again)) == (60, 20)
    assert {drop.reason for drop in chosen.drops} == {"over_taught_share"}
    assert again == result()[1] != result(seed=1)[1]
    full, again = result(most=30)
    assert (len(full.kept), len(again)) == (30, 10)
    assert len(result(config=rules.model_copy(update={"taught_per_other": 0.0}))[1]) == 0


def test_what_was_taught_by_somebody_held_out_is_not_rehearsed(candidate):
    some, taught = rows(candidate, 10), [candidate("t1", "what only tuning may see", held_out=TUNE)]
    chosen = select(some, {}, FilterConfig(min_votes=0), max_examples=100, seed=0, taught=taught)
    assert "t1" not in {row.inference_id for row in chosen.kept}
    assert [(drop.inference_id, drop.reason) for drop in chosen.drops] == [("t1", "held_out")]
