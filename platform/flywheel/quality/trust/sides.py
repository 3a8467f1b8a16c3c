"""Who stands apart from the rest, seen over all prompts at once: where estimation of reliability should begin.

Expectation-maximisation finds the nearest optimum. Begun with equal trust in everybody, it believes the majority on
each prompt by itself, so that a few accounts that outnumber the others on twenty rare questions are believed there,
and those who know better are not. Over all prompts it is plain who disagrees with the rest: the leading eigenvector
of signed agreement between actors has their entries below zero (Ghosh, Kale and McAfee 2011, "Who moderates the
moderators?"; as the start of EM: Zhang, Chen, Zhou and Jordan 2016, "Spectral methods meet EM").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from flywheel.quality.trust.statements import Bools, Floats

if TYPE_CHECKING:
    from flywheel.quality.trust.agreement import Votes

APART = 0.2
"""Where actors with more of the judged votes than this stand apart, nobody can tell which side is right."""
DAMPING = 4.0
"""Votes added to everybody's number, so that one shared vote does not weigh as much as a hundred."""


def apart(votes: Votes) -> Bools:
    """By actor: disagrees with the rest of the flow, as a whole and with those on the other side themselves.

    The second condition is for people who share few prompts with the rest, another language for example: a chance
    disagreement of one of them must not turn all who agree with that one.
    """
    nobody = np.zeros(votes.actors, dtype=bool)
    agreement = _Agreement(votes)
    if votes.actors < 3 or not agreement.judged.any():
        return nobody
    scale = 1 / np.sqrt(agreement.judged + DAMPING)
    begin = np.sqrt(agreement.judged)
    shape = (votes.actors, votes.actors)
    # scipy's stubs know neither this constructor nor that a tolerance is a fraction.
    operator: Any = LinearOperator(shape, matvec=lambda x: scale * agreement(scale * x.ravel()), dtype=np.float64)  # pyright: ignore
    tolerance: Any = 1e-6
    try:
        entries: Floats = eigsh(operator, k=1, which="LA", v0=begin, tol=tolerance)[1][:, 0]
    except ArpackError:  # no clear direction: nobody is apart from anything
        return nobody
    if begin @ entries < 0:
        entries = -entries
    found = (entries < 0) & (agreement((entries > 0).astype(np.float64)) < 0)
    return found if agreement.judged[found].sum() <= APART * agreement.judged.sum() else nobody


class _Agreement:
    """The matrix of signed agreement between actors, as a product with a vector; it would be dense itself.

    Two actors agree where they say the same of one answer, and disagree where they do not, or name different answers
    to a prompt that has one right answer. A prompt weighs as its voters, not as its pairs of them.
    """

    def __init__(self, votes: Votes) -> None:
        self._votes = votes
        self._item = votes.cell_item[votes.cell]
        self._sign = np.where(votes.positive, 1.0, -1.0)
        pairs = np.unique(np.stack([self._item, votes.actor]), axis=1)
        voters = np.bincount(pairs[0], minlength=votes.items)
        self._weight = (1 / np.maximum(voters - 1, 1))[self._item]
        judged = (voters[self._item] > 1).astype(np.float64)
        self.judged: Floats = np.bincount(votes.actor, judged, minlength=votes.actors).astype(np.float64)

    def __call__(self, x: Floats) -> Floats:
        votes, mine = self._votes, x[self._votes.actor]
        cells, items = len(votes.cell_item), votes.items
        alike = self._sign * np.bincount(votes.cell, self._sign * mine, minlength=cells)[votes.cell] - mine
        if votes.exclusive:
            named = np.where(votes.positive, mine, 0.0)
            same = np.bincount(votes.cell, named, minlength=cells)[votes.cell]
            alike += np.where(votes.positive, same - np.bincount(self._item, named, minlength=items)[self._item], 0.0)
        return np.bincount(votes.actor, alike * self._weight, minlength=votes.actors).astype(np.float64)
