"""Labels in a lake on a folder."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.lake.tables import Lake
from flywheel.records import Inference, Message
from flywheel.review.labels import add_labels, latest_per_inference, make_label, read_labels, retract, skip, skipped

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def label(n: int, *, minutes: int = 0, annotator: str = "ann", **changes):
    row = Inference(
        inference_id=f"i{n}", flow="triage", ts=T0, subject=f"s{n}", model_version="m",
        messages=[Message(role="user", content="q")], choices=["a"],
    )  # fmt: skip
    fields = {"kind": "accept", "split": "gate", **changes}
    return make_label(row, annotator=annotator, ts=T0 + timedelta(minutes=minutes), **fields)


def test_labels_are_stored_once_and_read_back(lake: Lake):
    batch = [label(n, minutes=n) for n in range(5)]
    assert add_labels(lake, batch) == 5
    assert add_labels(lake, batch) == 0
    assert add_labels(lake, [*batch, label(9)]) == 1
    assert {item.label_id for item in read_labels(lake, "triage")} == {item.label_id for item in [*batch, label(9)]}
    assert read_labels(lake, "other") == []
    assert add_labels(lake, []) == 0


def test_the_latest_word_of_an_annotator_counts(lake: Lake):
    add_labels(lake, [label(1, minutes=2, kind="correct", correction="b"), label(1, minutes=1)])
    add_labels(lake, [label(1, minutes=3, annotator="bob")])
    current = read_labels(lake, "triage")
    assert [(item.annotator, item.kind) for item in current] == [("ann", "correct"), ("bob", "accept")]
    assert latest_per_inference(current)["i1"].annotator == "bob"


def test_split_and_origin_select(lake: Lake):
    add_labels(lake, [label(1), label(2, split="tune"), label(3, origin="curated")])
    assert [item.inference_id for item in read_labels(lake, "triage", split="tune")] == ["i2"]
    assert [item.inference_id for item in read_labels(lake, "triage", split="gate", origin="random")] == ["i1"]


def test_a_retracted_label_gives_way_to_the_one_before(lake: Lake):
    first, second = label(1, minutes=1), label(1, minutes=2, kind="correct", correction="b")
    add_labels(lake, [first])
    add_labels(lake, [second])
    retract(lake, second)
    retract(lake, second)
    assert read_labels(lake, "triage") == [first]


def test_skips_are_kept_per_annotator_whatever_the_name(lake: Lake):
    skip(lake, "triage", "a/b ü@x", "i1")
    skip(lake, "triage", "a/b ü@x", "i1")
    assert skipped(lake, "triage", "a/b ü@x") == {"i1"}
    assert skipped(lake, "triage", "a") == set()
