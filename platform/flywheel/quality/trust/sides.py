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
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

from flywheel.quality.trust.statements import Bools, Floats

if TYPE_CHECKING:
    from flywheel.quality.trust.agreement import Votes

APART = 0.2
"""Where actors with more of the judged votes than this stand apart, nobody can tell which side is right."""
DAMPING = 4.0
"""Votes added to everybody's number, so that one shared vote does not weigh as much as a hundred."""
ROUNDING = 1e-9
"""Agreement nearer to zero than this is none."""


def apart(votes: Votes) -> Bools:
    """By actor: disagrees with the rest of the flow, as a whole, with those on the other side, and with most of them.

    The conditions after the first are for people who share few prompts with the rest, another language for example: a
    quarrel of one of them, or one account that flatters the rest and lies to them, must not turn all of them.
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
        # rng: where the iteration breaks down it goes on from a random direction, and a rerun shall find the same.
        entries: Floats = eigsh(operator, k=1, which="LA", v0=begin, tol=tolerance, rng=0)[1][:, 0]
    except ArpackError:  # no clear direction: nobody is apart from anything
        return nobody
    if begin @ entries < 0:
        entries = -entries
    found = (entries < 0) & (agreement((entries > 0).astype(np.float64)) < 0)
    if found.any():
        found = _outnumbered(votes, agreement, found)
    return found if agreement.judged[found].sum() <= APART * agreement.judged.sum() else nobody


def _outnumbered(votes: Votes, agreement: _Agreement, found: Bools) -> Bools:
    """Of those found: groups, linked by prompts, that more people disagree with than belong to them or side with them.

    People count and not votes, so that one account cannot be the opposition.
    """
    members, item = np.flatnonzero(found), votes.cell_item[votes.cell]
    theirs = found[votes.actor]
    size = votes.actors + votes.items
    links = (np.ones(theirs.sum()), (votes.actor[theirs], votes.actors + item[theirs]))
    linked = connected_components(sparse.coo_array(links, shape=(size, size)), directed=False)[1]
    group = np.unique(linked[members], return_inverse=True)[1]
    count = np.bincount(group)
    inside = sparse.csr_array((np.ones(len(members)), (members, group)), shape=(votes.actors, len(count)))
    outside = agreement(inside)[np.flatnonzero(~found)]
    against = (outside < -ROUNDING).sum(axis=0)
    alike = (outside > ROUNDING).sum(axis=0)
    kept = np.zeros(votes.actors, dtype=bool)
    kept[members] = (against > count + alike)[group]
    return kept


class _Agreement:
    """The matrix of signed agreement between actors, as a product with columns; it would be dense itself.

    Two actors agree where they say the same of one answer, and disagree where they do not, or name different answers
    to a prompt that has one right answer. A prompt weighs as its voters, not as its pairs of them.
    """

    def __init__(self, votes: Votes) -> None:
        item = votes.cell_item[votes.cell]
        pairs = np.unique(np.stack([item, votes.actor]), axis=1)
        voters = np.bincount(pairs[0], minlength=votes.items)[item]
        self.judged: Floats = np.bincount(votes.actor, voters > 1, minlength=votes.actors).astype(np.float64)
        weight = 1 / np.maximum(voters - 1, 1)
        root = np.sqrt(weight)
        cells, items = (votes.actors, len(votes.cell_item)), (votes.actors, votes.items)
        said = sparse.csr_array((np.where(votes.positive, root, -root), (votes.actor, votes.cell)), shape=cells)
        self._alike, self._different = [said], list[Any]()
        if votes.exclusive:
            named = np.where(votes.positive, root, 0.0)
            self._alike.append(sparse.csr_array((named, (votes.actor, votes.cell)), shape=cells))
            self._different.append(sparse.csr_array((named, (votes.actor, item)), shape=items))
        own = np.bincount(votes.actor, weight, minlength=votes.actors).astype(np.float64)
        self._own = sparse.diags_array(own)

    def __call__(self, x: Any) -> Any:
        """Of a vector, or of a sparse matrix of columns."""
        total = -(self._own @ x)
        for said in self._alike:
            total = total + said @ (said.T @ x)
        for named in self._different:
            total = total - named @ (named.T @ x)
        return total
