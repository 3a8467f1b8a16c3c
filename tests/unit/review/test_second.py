"""Second looks, disputes, comparisons: what is shown to whom."""

from datetime import UTC, datetime

from flywheel.records import Inference, Label, Message, ShadowPair
from flywheel.review.compare import find_others, served_first, with_other
from flywheel.review.queue import Other, QueueItem
from flywheel.review.second import dispute_queue, second_queue

TS = datetime(2026, 1, 1, tzinfo=UTC)


def row(n: int, *choices: str) -> Inference:
    return Inference(
        inference_id=f"i{n}", flow="f", ts=TS, subject=f"s{n}", model_version="m1",
        messages=[Message(role="user", content="q")], choices=list(choices) or ["a"],
    )  # fmt: skip


def label(n: int, annotator: str, kind: str = "accept", **fields) -> Label:
    return Label(**{
        "label_id": f"{n}{annotator}{kind}", "inference_id": f"i{n}", "flow": "f", "subject": f"s{n}", "ts": TS,
        "annotator": annotator, "kind": kind, "split": "gate", **fields,
    })  # fmt: skip


ITEMS = [QueueItem(row(n), "gate", "random") for n in range(6)]


def ids(items):
    return sorted(item.inference.inference_id for item in items)


def test_a_second_reviewer_gets_what_others_judged_and_nothing_of_what_they_said():
    labels = [
        label(0, "ann"), label(1, "ann", origin="curated"), label(2, "bob"), label(3, "ann"), label(3, "bob"),
        label(4, "ann", "rate", value=2), label(9, "ann"),
    ]  # fmt: skip
    queue = second_queue(ITEMS, labels, annotator="bob", question="judge", seed=0)
    assert ids(queue) == ["i0", "i1"]
    assert {item.inference.inference_id: item.origin for item in queue} == {"i0": "random", "i1": "curated"}
    assert all(item.said == () for item in queue)
    assert ids(second_queue(ITEMS, labels, annotator="bob", question="rate", seed=0)) == ["i4"]
    assert ids(second_queue(ITEMS, labels, annotator="eve", question="judge", seed=0)) == ["i0", "i1", "i2", "i3"]


def test_disputes_are_shown_with_what_was_said_until_they_are_settled():
    labels = [
        label(0, "ann"), label(0, "bob", "reject"), label(1, "ann"), label(1, "bob"),
        label(2, "ann", origin="curated"), label(2, "bob", "reject"), label(2, "eve", adjudicates=True),
    ]  # fmt: skip
    (item,) = dispute_queue(ITEMS, labels, question="judge", seed=0)
    assert (item.inference.inference_id, item.origin) == ("i0", "random")
    assert [one.kind for one in item.said] == ["accept", "reject"]
    assert second_queue(ITEMS[2:3], labels, annotator="dan", question="judge", seed=0) == []


def test_a_second_comparison_is_of_the_same_pair():
    labels = [label(0, "ann", "compare", value=1, other_answer="b", other_version="m2")]
    (item,) = second_queue(ITEMS, labels, annotator="bob", question="compare", seed=0)
    assert item.other == Other("b", "m2")


def test_answers_are_compared_with_other_choices_and_with_candidates():
    rows = [row(0, "yes", "Yes.", "no"), row(1, "yes"), row(2, "yes"), row(3, "yes")]
    pair = {"flow": "f", "ts": TS, "subject": "s", "candidate": "m2", "live_version": "m1", "live_answer": "yes"}
    pairs = [
        ShadowPair(inference_id="i1", candidate_answer="maybe", **pair),
        ShadowPair(inference_id="i2", candidate_answer="YES", **pair),  # says the same
        ShadowPair(inference_id="i3", candidate_answer=None, error="timeout", **pair),
    ]
    others = find_others(rows, pairs)
    assert others == {"i0": [Other("no", "m1")], "i1": [Other("maybe", "m2")]}
    items = with_other([QueueItem(one, "gate", "random") for one in rows], others, 0)
    assert [(item.inference.inference_id, item.other) for item in items] == [
        ("i0", Other("no", "m1")), ("i1", Other("maybe", "m2")),
    ]  # fmt: skip


def test_the_order_of_a_pair_is_fixed_and_a_coin_over_pairs():
    pairs = [QueueItem(row(n), "gate", "random", other=Other("b", None)) for n in range(400)]
    first = [served_first(pair, 1) for pair in pairs]
    assert first == [served_first(pair, 1) for pair in pairs]
    assert 160 < sum(first) < 240
    assert first != [served_first(pair, 2) for pair in pairs]
