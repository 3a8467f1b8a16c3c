"""The agreement report over labels, against numbers worked out by hand."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from flywheel.records import Label
from flywheel.review.agreement import agreement
from flywheel.review.overview import overview

TS = datetime(2026, 1, 1, tzinfo=UTC)


def label(n: int, annotator: str, kind: str = "accept", **fields) -> Label:
    return Label(**{
        "label_id": f"{n}{annotator}{kind}", "inference_id": f"i{n}", "flow": "f", "subject": f"s{n}", "ts": TS,
        "annotator": annotator, "kind": kind, "split": "gate", **fields,
    })  # fmt: skip


def twenty() -> list[Label]:
    """Both right on 9, both wrong on 6, ann alone right on 3, bob alone right on 2."""
    said = [("accept", "accept")] * 9 + [("reject", "correct")] * 6 + [("accept", "reject")] * 3
    said += [("correct", "accept")] * 2
    return [
        label(n, name, kind, correction="fixed" if kind == "correct" else None)
        for n, pair in enumerate(said)
        for name, kind in zip(("ann", "bob"), pair, strict=True)
    ]


def test_kappa_and_alpha_by_hand():
    report = agreement(twenty())
    (pair,), (version,) = report.pairs, report.versions
    chance = (12 / 20) * (11 / 20) + (8 / 20) * (9 / 20)
    assert (pair.annotators, pair.items, pair.same) == (("ann", "bob"), 20, 15)
    assert pair.kappa.value == pytest.approx((15 / 20 - chance) / (1 - chance), abs=1e-6)
    expected = 2 * 23 * 17 / (40 * 39)  # 23 times right, 17 times wrong
    assert version.alpha.value == pytest.approx(1 - (5 / 20) / expected, abs=1e-6)
    assert pair.kappa.low < pair.kappa.value < pair.kappa.high
    assert len(report.disagreements) == report.open == 5
    assert report.disagreements[0].said == {"ann": "accept", "bob": "reject"}


def test_a_ruling_settles_and_does_not_count_as_a_third_annotator():
    labels = [*twenty(), label(15, "eve", adjudicates=True)]
    report = agreement(labels)
    assert (len(report.pairs), len(report.disagreements), report.open) == (1, 5, 4)


def test_corrections_that_differ_are_a_disagreement_although_both_say_wrong():
    both = [label(1, "ann", "correct", correction="x"), label(1, "bob", "correct", correction="y")]
    report = agreement(both)
    assert (report.pairs[0].same, report.open) == (1, 1)
    assert report.disagreements[0].said == {"ann": "correct: x", "bob": "correct: y"}


def test_versions_and_questions_are_reported_apart_and_undefined_is_none():
    labels = [label(n, name, guideline_version="g2") for n in range(3) for name in ("ann", "bob")]
    labels += [label(n, name, "rate", value=value) for n, pair in enumerate([(1, 2), (4, 4), (5, 3)])
               for name, value in zip(("ann", "bob"), pair, strict=True)]  # fmt: skip
    labels += [label(9, "ann", guideline_version="g1"), label(9, "bob", guideline_version="g2")]  # not comparable
    report = agreement(labels)
    assert [(row.question, row.guideline_version, row.items) for row in report.pairs] == [
        ("judge", "g2", 3), ("rate", "1", 3),
    ]  # fmt: skip
    assert report.pairs[0].kappa.value is None
    assert report.pairs[1].kappa.value is not None
    assert [row.question for row in report.versions] == ["judge", "rate"]
    assert "NaN" not in json.dumps(asdict(report))
    assert [one.inference_id for one in report.disagreements] == ["i2"]  # 1 and 2 are neighbours, 5 and 3 are not


def test_one_annotator_alone_agrees_with_nobody():
    report = agreement([label(n, "ann") for n in range(5)])
    assert (report.pairs, report.versions, report.disagreements) == ([], [], [])


def test_the_overview_counts_what_holds_and_says_what_to_do():
    labels = [*twenty(), label(15, "eve", adjudicates=True), label(30, "ann", "reject")]
    found = overview(labels)
    assert (found.labels, found.twice, found.disputed, found.adjudicated) == (42, 20, 4, 1)
    assert found.annotators == {"ann": 21, "bob": 20, "eve": 1}
    assert found.subjects == {"gate": 21}
    assert found.without_answer == 1
    assert json.loads(json.dumps(asdict(found)))["kinds"]["accept"] == 24
    first, second = found.remarks()
    assert "--adjudicate" in first
    assert "rejected without a correction" in second
    assert overview([]).remarks() == []
