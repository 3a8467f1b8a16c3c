"""The informative queue's order, its reasons, and what it leaves out."""

import random
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from flywheel.records import Feedback, Inference, Label, Message
from flywheel.review.informative import FLOOR, Known, factors, informative_queue
from flywheel.review.queue import QueueItem

TS = datetime(2026, 1, 1, tzinfo=UTC)


def item(name: str, answer: str = "yes") -> QueueItem:
    row = Inference(
        inference_id=name, flow="f", ts=TS, subject=f"s-{name}", model_version="m",
        messages=[Message(role="user", content="q")], choices=[answer],
    )  # fmt: skip
    return QueueItem(row, "gate", "random")


def thumb(name: str, value: float, who: str = "u", kind: str = "thumbs") -> Feedback:
    return Feedback(
        feedback_id=f"{name}{value}{who}", inference_id=name, flow="f", ts=TS, subject=who, kind=kind, value=value
    )


def label(name: str, kind: str, annotator: str = "ann", **fields) -> Label:
    return Label(
        label_id=f"{name}{annotator}", inference_id=name, flow="f", subject="s", annotator=annotator, ts=TS, kind=kind,
        split="gate", **fields,
    )  # fmt: skip


def order(items, *, labels=(), feedback=(), rewards=None, seed=0):
    queue = informative_queue(
        items, labels=labels, feedback=feedback, rewards=rewards or {}, slicer=lambda row: row.choices[0], seed=seed
    )
    return [one.inference.inference_id for one in queue]


@pytest.mark.parametrize(
    ("known", "disagreement", "uncertainty"),
    [(Known(), 0, 1), (Known((True,)), 0, 2 / 3), (Known((True, False)), 1, 1), (Known((True,) * 3), 0, 0.4),
     (Known((), 0.5), 0, 1), (Known((), 1.0), 0, 0.5), (Known((True,), 0.0), 1, (2 / 3 + 0) / 2),
     (Known((True, True, False)), 4 * 2 / 9, 0.8)],
)  # fmt: skip
def test_factors_by_hand(known, disagreement, uncertainty):
    found = factors(known, covered=3)
    assert found.disagreement == pytest.approx(FLOOR + (1 - FLOOR) * disagreement)
    assert found.uncertainty == pytest.approx(FLOOR + (1 - FLOOR) * uncertainty)
    assert found.coverage == pytest.approx(FLOOR + (1 - FLOOR) / 4)
    assert found.score == pytest.approx(found.disagreement * found.uncertainty * found.coverage)


def test_disagreement_of_users_annotators_and_the_reward_model_comes_first():
    items = [item(name, name) for name in "abcdef"]
    feedback = [thumb("b", 1), thumb("b", -1, "v"), thumb("c", 1), thumb("f", 1), thumb("f", 1, "v"), thumb("d", 1)]
    labels = [label("c", "reject")]
    found = order(items, labels=labels, feedback=feedback, rewards={"d": 0.1, "e": 0.5})
    assert found[0] == "b"
    assert set(found[1:3]) == {"c", "d"}
    assert found[-1] == "f"


def test_slices_with_few_labels_come_first_and_take_turns():
    items = [item(f"{group}{n}", group) for group in ("rare", "common", "new") for n in range(3)]
    labels = [label(f"common{n}", "accept") for n in range(3)] + [label("rare0", "accept")]
    groups = [name.rstrip("0123456789") for name in order(items, labels=labels)]
    assert groups[0] == "new"
    assert set(groups[1:3]) == {"new", "rare"}
    untouched = [item(f"{group}{n}", group) for group in "ab" for n in range(4)]
    turns = [name[0] for name in order(untouched)]
    assert all(one != other for one, other in list(pairwise(turns))[::2])


def test_the_order_is_that_of_taking_the_best_again_and_again():
    rng = random.Random(7)
    items = [item(f"i{n}", rng.choice("abcd")) for n in range(120)]
    names = [one.inference.inference_id for one in items]
    rewards = {name: rng.random() for name in names if rng.random() < 0.7}
    feedback = [thumb(name, rng.choice([-1, 1]), f"u{n}") for n, name in enumerate(rng.choices(names, k=150))]
    votes = {name: tuple(e.value > 0 for e in feedback if e.inference_id == name) for name in names}
    group, covered, best = (
        {name: one.inference.choices[0] for name, one in zip(names, items, strict=True)},
        Counter(),
        [],
    )
    for found in order(items, feedback=feedback, rewards=rewards):
        scores = {
            name: factors(Known(votes[name], rewards.get(name)), covered[group[name]]).score
            for name in names
            if name not in best
        }
        assert scores[found] == pytest.approx(max(scores.values()))
        best.append(found)
        covered[group[found]] += 1
    assert sorted(best) == sorted(names)


def test_items_are_curated_say_why_and_settled_ones_are_left_out():
    items = [item("a"), item("b")]
    labels = [label("a", "accept"), label("a", "reject", "bob"), label("a", "accept", "eve", adjudicates=True)]
    queue = informative_queue(
        items, labels=labels, feedback=[thumb("b", -1)], rewards={"b": 0.75}, slicer=lambda _: "all", seed=0
    )
    assert [(one.inference.inference_id, one.origin) for one in queue] == [("b", "curated")]
    assert queue[0].why.startswith("disagreement 0.61 of 2 voices x uncertainty")
    assert "(1 labels of 'all')" in queue[0].why


def test_the_order_is_stable_and_equals_are_shuffled_by_the_seed():
    items = [item(f"i{n}", str(n)) for n in range(50)]
    assert order(items) == order(items[::-1])
    assert order(items) != order(items, seed=1)
    assert sorted(order(items)) == sorted(one.inference.inference_id for one in items)
