"""The two splits: fixed by content, by subject, with the shares that were asked for."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.config import LabelsConfig
from flywheel.errors import ConfigError
from flywheel.review.splits import Failure, failure_split, label_split, sides

LABELS = LabelsConfig(tune_share=0.1, audit_share=0.05, gate_share=0.3)
SHARE = 0.3
PINNED = ["audit", "tune", "tune", "tune", None, None, None, "gate", None, "gate", None, None]


def test_label_split_has_the_shares_and_stays():
    subjects = [f"s{i}" for i in range(20_000)]
    first = {subject: label_split(subject, LABELS, 7) for subject in subjects}
    assert first == {subject: label_split(subject, LABELS, 7) for subject in reversed(subjects)}
    counts = Counter(first.values())
    for split, share in (("tune", 0.1), ("audit", 0.05), ("gate", 0.3), (None, 0.55)):
        assert counts[split] / len(subjects) == pytest.approx(share, abs=0.012)
    assert first != {subject: label_split(subject, LABELS, 8) for subject in subjects}


def test_label_split_is_pinned():
    """A change of the hash would move people from judging to training: it must be a decision, not an accident."""
    assert [label_split(f"s{i}", LABELS, 0) for i in range(12)] == PINNED


@given(st.integers(0, 50), st.floats(0.01, 0.3), st.floats(0.01, 0.3), st.floats(0.01, 0.3))
def test_what_the_ledger_decided_stays_whatever_shares_and_seed_become(seed, tune, audit, gate):
    changed = LabelsConfig(tune_share=tune, audit_share=audit, gate_share=gate)
    decided = {f"s{i}": split for i in range(40) if (split := label_split(f"s{i}", LABELS, 7)) is not None}
    assert {subject: label_split(subject, changed, seed, decided) for subject in decided} == decided
    assert label_split("new", changed, seed, decided) == label_split("new", changed, seed)


def test_label_shares_above_one_are_refused():
    with pytest.raises(ConfigError, match="exceed 1"):
        label_split("s", LabelsConfig(tune_share=0.5, audit_share=0.3, gate_share=0.3), 0)


rows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4)), max_size=120)


def build(pairs):
    return [Failure(f"i{n}", f"s{subject}", f"c{cluster}") for n, (subject, cluster) in enumerate(pairs)]


@given(rows, st.randoms(), st.integers(0, 3))
def test_failure_split_is_a_partition_by_subject_and_ignores_order(pairs, random, seed):
    failures = build(pairs)
    split = failure_split(failures, share=SHARE, seed=seed)
    assert split.evaluation | split.training == {item.inference_id for item in failures}
    assert not split.evaluation & split.training
    judged = {item.subject for item in failures if item.inference_id in split.evaluation}
    learnt = {item.subject for item in failures if item.inference_id in split.training}
    assert not judged & learnt
    random.shuffle(failures)
    assert failure_split(failures, share=SHARE, seed=seed) == split


@given(rows, rows)
def test_what_was_decided_stays_decided(before, after):
    first = build(before)
    earlier = sides(first, failure_split(first, share=SHARE, seed=1))
    grown = build(before + after)
    later = sides(grown, failure_split(grown, share=SHARE, seed=1, decided=earlier))
    assert {subject: later[subject] for subject in earlier} == earlier


def test_every_cluster_gives_its_share():
    failures = [Failure(f"i{c}-{n}", f"s{c}-{n}", f"c{c}") for c in range(6) for n in range(50 * (c + 1))]
    split = failure_split(failures, share=SHARE, seed=3)
    for cluster in range(6):
        mine = [item for item in failures if item.cluster == f"c{cluster}"]
        assert sum(item.inference_id in split.evaluation for item in mine) == pytest.approx(len(mine) * SHARE, abs=1)


def test_clusters_of_one_keep_the_share_together():
    failures = [Failure(f"i{n}", f"s{n}", f"c{n}") for n in range(3_000)]
    split = failure_split(failures, share=SHARE, seed=3)
    assert len(split.evaluation) / 3_000 == pytest.approx(SHARE, abs=0.03)


def test_new_subjects_fill_the_quota_that_earlier_ones_left():
    failures = [Failure(f"i{n}", f"s{n}", "c") for n in range(100)]
    split = failure_split(failures, share=SHARE, seed=3, decided={f"s{n}": "training" for n in range(60)})
    assert len(split.evaluation) == 30
