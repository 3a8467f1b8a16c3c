"""Labels in a lake on a folder."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.lake.tables import Lake
from flywheel.records import Inference, Message
from flywheel.review.labels import (
    add_labels,
    latest_per_inference,
    make_label,
    read_labels,
    read_splits,
    retract,
    skip,
    skipped,
)

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
    add_labels(lake, [label(1, minutes=3, annotator="bob", kind="correct", correction="B.")])
    current = read_labels(lake, "triage")
    assert [(item.annotator, item.kind) for item in current] == [("ann", "correct"), ("bob", "correct")]
    assert latest_per_inference(current)["i1"].annotator == "bob"


def test_rating_and_comparing_an_answer_do_not_replace_the_verdict_on_it(lake: Lake):
    said = [
        label(1, minutes=1), label(1, minutes=2, kind="rate", value=2),
        label(1, minutes=3, kind="compare", value=1, other_answer="b", other_version="m2"),
        label(1, minutes=4, kind="compare", value=-1, other_answer="c"),
    ]  # fmt: skip
    assert add_labels(lake, said) == 4
    assert add_labels(lake, said) == 0
    assert read_labels(lake, "triage") == said
    assert latest_per_inference(said) == {"i1": said[0]}


def test_statements_made_at_the_same_moment_are_different_rows():
    rates = {label(1, kind="rate", value=value).label_id for value in (1, 2, None)}
    compares = {label(1, kind="compare", value=1, other_answer=text).label_id for text in "bc"}
    assert len(rates | compares | {label(1, adjudicates=True).label_id, label(1).label_id}) == 7


def test_ids_of_labels_made_before_there_were_ratings_stay():
    assert label(1).label_id == "label-67dafa871a05"


def test_the_first_label_of_a_subject_fixes_its_split_for_good(lake: Lake):
    """Also one that was taken back: somebody, or a search, may have read it meanwhile."""
    add_labels(lake, [label(1, minutes=5, split="gate"), label(2, split="audit")])
    first = label(1, minutes=1, split="tune")
    add_labels(lake, [first])
    retract(lake, first)
    assert read_splits(lake, "triage") == {"s1": "tune", "s2": "audit"}
    assert read_splits(lake, "other") == {}


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
