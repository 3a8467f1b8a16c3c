"""How reliable each rater is, and what everybody else says about each vote: one-coin Dawid-Skene.

Dawid and Skene 1979 estimate raters' errors and the truth together by EM. Here each rater has one number, the chance
to be right (the one-coin model; Zhang, Chen, Zhou and Jordan 2016, "Spectral methods meet EM", section 2): raters of
a product give a handful of votes each, too few for a confusion matrix. Three things differ from the textbook:

- Answers are no closed set. The labels of an item are the answers that somebody voted on, and "another one".
- A vote may be *against* an answer. With reliability q a vote for z has the likelihood ratio q / ((1-q) / K), a vote
  against z its inverse with K = 1, so an item's log-posterior is a sum of votes' weights.
- A rater is judged by votes on which somebody else spoke (``judged_only``): one on a prompt that nobody else has seen
  confirms itself, and reliabilities of raters with such prompts would only say what they started from. The rater's own
  word belongs to these votes' posterior. Left out, the mean over posteriors is that of the others' word, which is
  right less often than both together: where most prompts have two raters, reliabilities then fall round by round,
  below chance, whatever people say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flywheel.quality.trust.sides import apart
from flywheel.quality.trust.statements import Bools, Floats, Ints

LEAST_RELIABLE, MOST_RELIABLE = 0.5, 0.95
"""A rater worse than chance is not heard, rather than believed in reverse: else attackers steer by lying openly."""
ANCHOR = 20.0
"""Weight of ``prior`` in the mean reliability, in votes. People are right more often than not: that is what tells
truth from its mirror image, and a handful of votes must not overturn it."""


@dataclass(frozen=True)
class Votes:
    """One vote an actor and cell; ``cell_item`` maps cells to items. ``exclusive``: one answer of an item is right."""

    actor: Ints
    cell: Ints
    positive: Bools
    cell_item: Ints
    exclusive: bool

    @property
    def actors(self) -> int:
        """How many."""
        return int(self.actor.max(initial=-1)) + 1

    @property
    def items(self) -> int:
        """How many."""
        return int(self.cell_item.max(initial=-1)) + 1


@dataclass(frozen=True)
class Agreement:
    """``reliability`` by actor (chance to be right), its mean; by vote what the others say."""

    reliability: Floats
    mean: float
    evidence: Ints
    """By actor: votes about which somebody else said something."""
    supported: Floats
    """By vote: chance that it is right, by the others' votes alone."""
    others: Ints
    """By vote: how many other actors voted on the same item."""
    believed: Floats
    """By cell: chance that it is right, by all votes."""


def dawid_skene(
    votes: Votes, *, prior: float = 0.8, prior_votes: float = 4.0, alternatives: float = 1.0, other: bool = True,
    judged_only: bool = True, rounds: int = 30, tolerance: float = 1e-4,
) -> Agreement:  # fmt: skip
    """EM until no reliability moves by more than ``tolerance``, from ``prior`` for all but those who stand ``apart``.

    Args:
        votes: at most one for an actor and cell.
        prior: reliability to start from; later the mean of all takes its place.
        prior_votes: weight of that mean, in votes, when an actor's own reliability is estimated.
        alternatives: K, over how many wrong answers errors spread. 1 is careful: two who err say the same.
        other: whether an item may have a right answer that nobody has named.
        judged_only: judge an actor by votes on which somebody else spoke; False is the textbook's M-step.
        rounds: at most.
        tolerance: of a reliability.
    """
    reliability = np.where(apart(votes), LEAST_RELIABLE, prior)
    others = _others(votes)
    counts = (others > 0) if judged_only else np.ones(len(votes.actor), dtype=bool)
    evidence = np.bincount(votes.actor[counts], minlength=votes.actors)
    mean = prior
    for _ in range(rounds):
        right = _right(votes, _weights(votes, reliability, alternatives), other=other, alone=False)
        total = np.bincount(votes.actor[counts], right[counts], minlength=votes.actors)
        mean = float((right[counts].sum() + ANCHOR * prior) / (counts.sum() + ANCHOR))
        updated = (total + prior_votes * mean) / np.maximum(evidence + prior_votes, 1e-12)
        moved = float(np.abs(updated - reliability).max(initial=0.0))
        reliability = updated
        if moved < tolerance:
            break
    weights = _weights(votes, reliability, alternatives)
    return Agreement(
        reliability, mean, evidence, _right(votes, weights, other=other, alone=True), others,
        _believed(votes, weights, other=other),
    )  # fmt: skip


def converges(votes: Votes) -> float | None:
    """How often two people who name a good answer to one prompt name the same; None where no two ever did.

    The mean over prompts, so that the popular ones do not decide. Near 1 there is one right answer to a prompt; in
    open-ended flows many are, and another answer says nothing against this one.
    """
    named = np.bincount(votes.cell[votes.positive], minlength=len(votes.cell_item)).astype(np.float64)
    pairs = np.bincount(votes.cell_item, named * (named - 1), minlength=votes.items)
    total = np.bincount(votes.cell_item, named, minlength=votes.items)
    several = total > 1
    return float((pairs[several] / (total[several] * (total[several] - 1))).mean()) if several.any() else None


def _weights(votes: Votes, reliability: Floats, alternatives: float) -> Floats:
    """Log likelihood ratio of each vote for its cell."""
    bounded = np.clip(reliability, LEAST_RELIABLE, MOST_RELIABLE)[votes.actor]
    logit = np.log(bounded / (1 - bounded))
    return np.where(votes.positive, logit + np.log(alternatives), -logit)


def _scores(votes: Votes, weights: Floats) -> Floats:
    return np.bincount(votes.cell, weights, minlength=len(votes.cell_item)).astype(np.float64)


def _top(votes: Votes, scores: Floats) -> Floats:
    """By item: its largest score, at least 0 (that of "another answer"); exponentials are relative to it."""
    top = np.zeros(votes.items)
    np.maximum.at(top, votes.cell_item, scores)
    return top


def _logistic(scores: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(scores / 2))


def _believed(votes: Votes, weights: Floats, *, other: bool) -> Floats:
    scores = _scores(votes, weights)
    if not votes.exclusive:
        return _logistic(scores)
    top = _top(votes, scores)
    mass = np.exp(scores - top[votes.cell_item])
    total = np.bincount(votes.cell_item, mass, minlength=votes.items) + other * np.exp(-top)
    return mass / np.maximum(total, np.finfo(float).tiny)[votes.cell_item]


def _right(votes: Votes, weights: Floats, *, other: bool, alone: bool) -> Floats:
    """By vote: chance that it is right, by all votes or (``alone``) by the other actors' only."""
    if not alone:
        good = _believed(votes, weights, other=other)[votes.cell]
    elif votes.exclusive:
        good = _by_others(votes, weights, other=other)
    else:
        good = _logistic(_scores(votes, weights)[votes.cell] - weights)
    return np.where(votes.positive, good, 1 - good)


def _by_others(votes: Votes, weights: Floats, *, other: bool) -> Floats:
    """By vote: chance of its cell when all votes of its actor on the item are left out.

    One actor's votes move a sum by a factor of 19 at the most (``MOST_RELIABLE``), so the subtraction is exact enough.
    """
    scores, item = _scores(votes, weights), votes.cell_item[votes.cell]
    top = _top(votes, np.maximum(scores, _highest(votes, scores[votes.cell] - weights)))
    mass = np.exp(scores - top[votes.cell_item])
    mine = np.exp(scores[votes.cell] - weights - top[item])
    pair = _pairs(votes)
    change = np.bincount(pair, mine - mass[votes.cell])[pair]
    total = np.bincount(votes.cell_item, mass, minlength=votes.items) + other * np.exp(-top)
    return np.clip(mine / np.maximum(total[item] + change, np.finfo(float).tiny), 0.0, 1.0)


def _highest(votes: Votes, scores: Floats) -> Floats:
    """By cell: the largest of its votes' scores."""
    highest = np.full(len(votes.cell_item), -np.inf)
    np.maximum.at(highest, votes.cell, scores)
    return highest


def _pairs(votes: Votes) -> Ints:
    """One number for each (actor, item): the own votes that are left out together."""
    place = votes.actor * max(1, votes.items) + votes.cell_item[votes.cell]
    return np.unique(place, return_inverse=True)[1].astype(np.int64)


def _others(votes: Votes) -> Ints:
    """By vote: other actors on the same item (where one answer is right), or on the same answer."""
    if votes.exclusive:
        pairs = np.unique(np.stack([votes.cell_item[votes.cell], votes.actor]), axis=1)
        return np.bincount(pairs[0], minlength=votes.items)[votes.cell_item[votes.cell]] - 1
    return np.bincount(votes.cell, minlength=len(votes.cell_item))[votes.cell] - 1
