"""Which label counts when several people spoke."""

from datetime import UTC, datetime, timedelta

import pytest

from flywheel.records import Label
from flywheel.review.settle import Matter, current, expected_answer, open_disputes, opinions, says_right

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SAID = {
    "yes": {"kind": "accept"}, "no": {"kind": "reject"}, "A": {"kind": "correct", "correction": '{"a": 1, "b": 2}'},
    "a": {"kind": "correct", "correction": '{"b":2,"a":1}'}, "B": {"kind": "correct", "correction": "else"},
    **{str(value): {"kind": "rate", "value": value} for value in range(1, 6)},
    **{f"x{value}": {"kind": "compare", "value": value, "other_answer": "x"} for value in (-1, 0, 1)},
}  # fmt: skip


def label(said: str, annotator: str = "ann", minutes: int = 0, **fields) -> Label:
    return Label(**{
        "label_id": f"{said}-{annotator}-{minutes}", "inference_id": "i1", "flow": "f", "subject": "s",
        "annotator": annotator, "ts": T0 + timedelta(minutes=minutes), "split": "gate", **SAID[said], **fields,
    })  # fmt: skip


def only(labels):
    (one,) = opinions(labels).values()
    return one


@pytest.mark.parametrize(
    ("said", "counts"),
    [("yes yes", "yes"), ("A a", "a"), ("A no", "A"), ("no A", "A"), ("no no", "no"), ("yes no", None), ("yes A", None),
     ("A B", None), ("A a B", None), ("4 5", "5"), ("2 4", None), ("3 4 5", None), ("x1 x1", "x1"), ("x1 x0", None),
     ("x1 x-1", None), ("yes", "yes")],
)  # fmt: skip
def test_what_counts(said, counts):
    labels = [label(word, f"p{number}", number) for number, word in enumerate(said.split())]
    one = only(labels[::-1])
    assert one.disputed == one.open == (counts is None)
    assert (one.counts.label_id.split("-p")[0] if one.counts else None) == counts


def test_a_ruling_alone_counts_and_later_words_do_not_reopen():
    said = [label("yes"), label("no", "bob", 1), label("A", "eve", 2, adjudicates=True), label("yes", "dan", 3)]
    one = only(said)
    assert (one.counts.annotator, one.disputed, one.open) == ("eve", True, False)
    assert [row.annotator for row in one.said] == ["ann", "bob", "dan"]
    assert open_disputes(said) == set()
    assert open_disputes(said[:2]) == {"i1"}
    assert open_disputes(said[:2], "rate") == set()


def test_an_annotator_who_adjudicates_keeps_what_they_said_and_the_latest_word_counts():
    said = [label("yes"), label("no", "bob", 1), label("no", "ann", 2, adjudicates=True), label("no", "ann", 3)]
    one = only(said)
    assert [(row.annotator, row.kind) for row in one.said] == [("bob", "reject"), ("ann", "reject")]
    assert one.ruling is said[2]
    assert said[0] not in current(said)


def test_questions_and_comparisons_are_matters_of_their_own():
    said = [label("yes"), label("1"), label("x1"), label("x-1", other_answer="y")]
    assert set(opinions(said)) == {
        Matter("i1", "rate"), Matter("i1", "compare", "x"), Matter("i1", "compare", "y"), Matter("i1", "judge"),
    }  # fmt: skip


def test_what_a_label_says_about_the_served_answer():
    assert [says_right(label(word)) for word in ("yes", "no", "A", "1", "2", "3", "4", "5", "x1")] == [
        True, False, False, False, False, None, True, True, None,
    ]  # fmt: skip
    assert [expected_answer(label(word), "served") for word in ("yes", "B", "no", "5", "x1")] == [
        "served", "else", None, None, None,
    ]  # fmt: skip
