"""Duplicates in other words, with an encoder whose vectors are written down, and with the real small one."""

import random

import numpy as np
import pytest

import flywheel.quality.semantic as semantic
from flywheel.config import DedupConfig, FilterConfig
from flywheel.quality import build, curate
from flywheel.quality.build import BuildResult
from flywheel.quality.curate import select
from flywheel.quality.rows import TUNE, Exclusions
from flywheel.quality.semantic import meant_by_suites, semantic_duplicates


def angles(table):
    """Texts -> unit vectors in the plane at the angle (in degrees) that ``table`` names; unknown ones are zero."""

    def encode(texts):
        turned = [np.deg2rad(table[text]) if text in table else None for text in texts]
        return np.array([[0, 0] if a is None else [np.cos(a), np.sin(a)] for a in turned], dtype=np.float32)

    return encode


def test_the_row_with_the_higher_reward_stays_and_is_named(candidate):
    encode = angles({"one": 0, "other words": 10, "far": 80})
    rows = [candidate("a", "one"), candidate("b", "other words"), candidate("c", "far")]
    kept, drops = semantic_duplicates(rows, encode, threshold=0.95, reward={"b": 0.9, "a": 0.1})
    assert [row.inference_id for row in kept] == ["b", "c"]
    assert [(drop.inference_id, drop.reason, drop.detail) for drop in drops] == [
        ("a", "semantic_duplicate", f"b {np.cos(np.deg2rad(10)):.3f}")
    ]


def test_near_questions_with_other_answers_both_stay(candidate):
    encode = angles({"cancel it": 0, "do not cancel it": 5, "cancelled": 0, "kept": 90, "is cancelled": 5})
    rows = [candidate("a", "cancel it", "cancelled"), candidate("b", "do not cancel it", "kept"),
            candidate("c", "do not cancel it", "is cancelled")]  # fmt: skip
    kept, drops = semantic_duplicates(rows, encode, threshold=0.95, reward={})
    assert [row.inference_id for row in kept] == ["a", "b"]
    assert [drop.detail.split()[0] for drop in drops] == ["a"]


def test_a_chain_of_small_steps_does_not_collapse_and_unknown_words_mean_nothing(candidate):
    encode = angles({"0": 0, "15": 15, "30": 30, "45": 45})
    rows = [candidate(text, text) for text in ("0", "15", "30", "45", "unknown", "words")]
    kept, drops = semantic_duplicates(rows, encode, threshold=0.95, reward={})
    assert [row.inference_id for row in kept] == ["0", "30", "unknown", "words"]
    assert {drop.inference_id: drop.detail.split()[0] for drop in drops} == {"15": "0", "45": "30"}


def test_blocks_change_nothing(candidate, monkeypatch):
    rng = random.Random(0)
    table = {f"text {i}": rng.uniform(0, 360) for i in range(120)}
    rows = [candidate(f"{i:03d}", text) for i, text in enumerate(table)]
    reward = {f"{i:03d}": rng.random() for i in range(120)}
    whole = semantic_duplicates(rows, angles(table), threshold=0.999, reward=reward)
    for name, size in (("_ROWS", 7), ("_KEPT", 5), ("_TEXTS", 11)):
        monkeypatch.setattr(semantic, name, size)
    assert semantic_duplicates(rows, angles(table), threshold=0.999, reward=reward) == whole
    by_hand = []
    for row in sorted(rows, key=lambda row: (-reward[row.inference_id], row.inference_id)):
        angle = table[row.messages[0].content]
        if all(np.cos(np.deg2rad(angle - table[other.messages[0].content])) < 0.999 for other in by_hand):
            by_hand.append(row)
    assert sorted(row.inference_id for row in by_hand) == [row.inference_id for row in whole[0]]


def test_what_a_suite_says_in_other_words_never_enters(candidate, monkeypatch, tmp_path):
    encode = angles({"where is my parcel": 0, "has my package been sent": 12, "opening hours": 70})
    rows = [candidate("near", "has my package been sent"), candidate("far", "opening hours"),
            candidate("held", "has my package been sent", held_out=TUNE)]  # fmt: skip
    found = meant_by_suites(rows, ["where is my parcel"], encode, threshold=0.95)
    assert found == {"near": pytest.approx(np.cos(np.deg2rad(12)), abs=1e-5)}
    assert meant_by_suites(rows, [], encode, threshold=0.95) == {}

    class Settings:
        class quality:  # noqa: N801
            dedup = DedupConfig(encoder="wordllama")

    monkeypatch.setattr(semantic, "load_encoder", lambda name: encode)
    assert set(build._meant(rows, Exclusions(decisive=["where is my parcel"]), Settings)) == {"near"}
    Settings.quality.dedup = DedupConfig()
    assert build._meant(rows, Exclusions(decisive=["where is my parcel"]), Settings) == {}


def test_selection_drops_what_is_said_in_other_words_only_where_an_encoder_is_named(candidate, monkeypatch):
    encode = angles({"my parcel is late": 0, "the package has not come yet": 8})
    monkeypatch.setattr(semantic, "load_encoder", lambda name: encode)
    rows = [candidate("a", "my parcel is late"), candidate("b", "the package has not come yet")]
    loose = FilterConfig(min_votes=0, liked_per_correction=100)
    plain = select(rows, {}, loose, max_examples=10, seed=0)
    found = select(rows, {}, loose, max_examples=10, seed=0, dedup=DedupConfig(encoder="wordllama"))
    assert [row.inference_id for row in plain.kept] == ["a", "b"]
    assert [row.inference_id for row in found.kept] == ["a"]
    built = BuildResult(id="x", folder="", captured=2, consented=2, candidates=2, held_out=0, corrections=0, liked=2,
                        dropped={})  # fmt: skip
    assert curate.count(built, found).unique == 1


def test_the_index_gives_the_selection_that_is_made_without_it(candidate, tmp_path):
    from flywheel.config import FlywheelConfig
    from flywheel.lake.tables import Lake
    from flywheel.quality.known import known_groups

    rng = random.Random(4)
    words = ["order", "late", "parcel", "refund", "broken", "router", "where", "when", "invoice", "please"]
    texts = [" ".join(rng.choices(words, k=rng.randint(3, 7))) for _ in range(60)]
    rows = [candidate(f"{i:03d}", rng.choice(texts) + rng.choice(["", "!", " now"]), rng.choice("xy"))
            for i in range(200)]  # fmt: skip
    lake, config = Lake(tmp_path), FlywheelConfig(flow="f")
    loose = FilterConfig(min_votes=0, liked_per_correction=100, near_duplicate_jaccard=0.8)
    for share in (0.5, 1.0, 0.7):
        now = rows[: int(200 * share)]
        known = known_groups(lake, config, loose, now)
        plain = select(now, {}, loose, max_examples=1000, seed=0)
        assert select(now, {}, loose, max_examples=1000, seed=0, groups_of=known.of) == plain
        assert len(plain.kept) < len(now)
    assert known.counts.computed == 0
    assert known_groups(lake, config, FilterConfig(enabled=False), rows) is None
