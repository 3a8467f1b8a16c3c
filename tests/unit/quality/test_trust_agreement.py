"""Raters of known reliability: what the estimate makes of them, and that nobody confirms themselves."""

import numpy as np
import pytest

from flywheel.quality.trust.agreement import Votes, converges, dawid_skene


def crowd(seed=0, *, items=400, actors=40, each=6, labels=4):
    """Closed labels: every (item, label) is a cell, ``each`` raters an item, reliabilities from .5 to .95."""
    rng = np.random.default_rng(seed)
    reliability = np.linspace(0.5, 0.95, actors)
    truth = rng.integers(labels, size=items)
    actor = np.concatenate([rng.choice(actors, each, replace=False) for _ in range(items)])
    item = np.repeat(np.arange(items), each)
    wrong = (truth[item] + rng.integers(1, labels, size=len(item))) % labels
    label = np.where(rng.random(len(item)) < reliability[actor], truth[item], wrong)
    votes = Votes(
        actor, item * labels + label, np.ones(len(item), dtype=bool), np.repeat(np.arange(items), labels), True
    )
    return votes, truth, reliability


@pytest.mark.parametrize("judged_only", [False, True])
def test_reliabilities_are_found(judged_only):
    votes, truth, reliability = crowd()
    found = dawid_skene(votes, alternatives=3, other=False, judged_only=judged_only, prior_votes=1)
    assert np.corrcoef(found.reliability, reliability)[0, 1] > 0.9
    assert np.abs(found.reliability - reliability).mean() < 0.06
    best = found.believed.reshape(-1, 4).argmax(axis=1)
    majority = np.bincount(votes.cell, minlength=1600).reshape(-1, 4).argmax(axis=1)
    assert (best == truth).mean() > max(0.93, (majority == truth).mean())


def one_each(votes):
    """Votes as (actor, item, answer, positive)."""
    cells = sorted({(item, answer) for _, item, answer, _ in votes})
    return Votes(
        np.array([actor for actor, *_ in votes]),
        np.array([cells.index((item, answer)) for _, item, answer, _ in votes]),
        np.array([positive for *_, positive in votes]),
        np.array([item for item, _ in cells]),
        True,
    )


def test_a_vote_on_what_nobody_else_saw_confirms_nothing():
    found = dawid_skene(one_each([(0, item, 0, True) for item in range(50)]))
    assert found.evidence.tolist() == [0]
    assert found.others.max() == 0
    assert found.reliability[0] == pytest.approx(0.8)
    assert found.supported == pytest.approx(0.5)  # this answer, or another that nobody named


def test_another_answer_contradicts_and_a_thumb_down_refutes():
    said = [(actor, 0, "right", True) for actor in range(4)] + [(4, 0, "garbage", True), (5, 0, "right", False)]
    found = dawid_skene(one_each(said))
    assert (found.supported[:4] > 0.8).all()
    assert (found.supported[4:] < 0.1).all()
    assert (found.reliability[4:] < found.reliability[0] - 0.1).all()


def test_where_many_answers_are_good_another_one_says_nothing():
    said = [(actor, item, actor, True) for item in range(20) for actor in range(item % 5, item % 5 + 3)]
    votes = one_each(said)
    assert converges(votes) == 0
    loose = dawid_skene(Votes(votes.actor, votes.cell, votes.positive, votes.cell_item, exclusive=False))
    assert loose.others.max() == 0
    assert loose.supported == pytest.approx(0.5)
    assert converges(one_each([(0, 0, "a", True)])) is None
    assert converges(one_each([(0, 0, "a", True), (1, 0, "a", True)])) == 1


@pytest.mark.parametrize("right", [0.88, 0.95])
def test_two_voices_a_prompt_are_enough(right):
    """Most prompts of a product have no more; reliabilities stay where they are, and do not fall round by round."""
    rng = np.random.default_rng(0)
    said = [
        (int(actor), item, 0 if rng.random() < right else int(rng.integers(1, 20)), True)
        for item in range(1_000)
        for actor in rng.choice(100, 2, replace=False)
    ]
    found = dawid_skene(one_each(said))
    assert abs(found.mean - right) < 0.06
    assert found.reliability.min() > 0.5
