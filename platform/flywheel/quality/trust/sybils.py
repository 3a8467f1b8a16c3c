"""Accounts that are one actor: a shared session, the same votes at the same times, or a ring apart from all others."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from flywheel.quality.trust.statements import Bools, Ints, Statements

USUAL_SHARING = 0.05
"""Where more sessions than this have several accounts, a session says nothing about who is who."""
CROWDED = 0.1
"""Where one time slot holds more of all votes than this (an import at one time), times say nothing about who is who."""
POPULAR = 200
"""More accounts than this on one vote and time are a crowd; comparing all their pairs would cost its square."""
CORE = 0.8
"""Share of the linked votes that the largest group must hold before the others are apart *from* something."""


def same_session(said: Statements) -> Ints:
    """(2, n): pairs of accounts that used one session, if that is unusual in this flow."""
    used = np.unique(np.stack([said.session, said.rater])[:, said.session >= 0], axis=1)
    counts = np.bincount(used[0]) if used.size else np.zeros(0, dtype=np.int64)
    several = int((counts > 1).sum())
    if not several or several > USUAL_SHARING * int((counts > 0).sum()):
        return np.zeros((2, 0), dtype=np.int64)
    same = used[0][1:] == used[0][:-1]
    return np.stack([used[1][:-1][same], used[1][1:][same]])


def lockstep(said: Statements, *, seconds: float, shared: int, overlap: float) -> Ints:
    """(2, n): pairs of accounts with ``shared`` equal votes in equal time slots, and ``overlap`` of what either did.

    Many people may react to one event in the same hour; that two of them do so to the same several answers, and to
    little else, is no accident.
    """
    slots = np.floor((said.at - said.at.min(initial=0.0)) / seconds).astype(np.int64)
    if slots.size and np.bincount(slots).max() > CROWDED * slots.size:
        return np.zeros((2, 0), dtype=np.int64)
    votes = said.cell * 2 + said.positive
    _, mark = np.unique(np.stack([votes, slots]), axis=1, return_inverse=True)
    seen = np.unique(np.stack([said.rater, mark.ravel()]), axis=1)
    often = np.bincount(seen[1]) if seen.size else np.zeros(0, dtype=np.int64)
    own = np.bincount(seen[0], minlength=len(said.raters))
    seen = seen[:, (often[seen[1]] > 1) & (often[seen[1]] <= POPULAR)]
    if not seen.size:
        return np.zeros((2, 0), dtype=np.int64)
    table = sparse.csr_matrix(
        (np.ones(seen.shape[1], dtype=np.int64), (seen[0], seen[1])), shape=(len(said.raters), int(seen[1].max()) + 1)
    )
    both = sparse.triu(table @ table.T, k=1).tocoo()
    union = own[both.row] + own[both.col] - both.data
    alike = (both.data >= shared) & (both.data >= overlap * union)
    return np.stack([both.row[alike], both.col[alike]]).astype(np.int64)


def merged(accounts: int, pairs: Ints) -> Ints:
    """By account: its actor. Pairs are one actor, transitively."""
    links = sparse.coo_matrix((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(accounts, accounts))
    return connected_components(links, directed=False)[1].astype(np.int64)


def rings(actor: Ints, cell: Ints, text: Ints, linking: Bools, *, least_accounts: int, least_votes: int) -> Ints:
    """By vote: the number of its ring, or -1.

    Actors are linked by answers they agree on, and by equal answers to any prompt. Honest people, new ones too, say
    now and then what many say, and so hang together with nearly everybody. A group of which no vote is shared with
    anybody outside agrees with itself only.

    Args:
        actor: by vote.
        cell: by vote.
        text: by vote.
        linking: votes that may link: for an answer that is believed.
        least_accounts: smaller groups are people with rare questions.
        least_votes: the same.
    """
    none = np.full(len(actor), -1, dtype=np.int64)
    if not linking.any():
        return none
    actors, cells = int(actor.max()) + 1, int(cell.max()) + 1
    start = np.r_[actor[linking], actor[linking]]
    end = np.r_[actors + cell[linking], actors + cells + text[linking]]
    size = actors + cells + int(text.max()) + 1
    group = connected_components(sparse.coo_matrix((np.ones(len(start)), (start, end)), shape=(size, size)), False)[1]
    mine = group[actor].astype(np.int64)
    members, votes = np.bincount(group[np.unique(actor)]), np.bincount(mine)
    shared = votes[: len(members)] * (members > 1)
    if shared.max() < CORE * shared.sum():
        return none
    apart = (members >= least_accounts) & (votes[: len(members)] >= least_votes)
    apart[int(shared.argmax())] = False
    return np.where(apart[mine], mine, -1)
