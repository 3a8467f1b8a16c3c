"""Topics of recent texts that earlier ones do not explain: words that suddenly many people use.

Every word and every pair of neighbouring words is asked about: how many people used it now, how many before? If
nothing had changed, the people of now among all who used it would be a random draw, and the hypergeometric tail
says how improbable so many are (Fisher's exact test). Bonferroni's correction pays for having asked about every
phrase that was frequent enough. People are counted, not texts, so that one person's repetition is no trend.

A topic whose words were all in use before is not found by this; nor is one that has no words in common.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from flywheel.text.words import words

FIRST_WORDS = 200
"""Of a longer text only these are looked at."""


class Said(NamedTuple):
    """A text and whose it is."""

    person: str
    text: str


class Topic(NamedTuple):
    """A phrase that is new: positions of the recent texts that use it, of how many people, and its p-value."""

    phrase: str
    members: list[int]
    people: int
    p: float


def new_topics(recent: Sequence[Said], earlier: Sequence[Said], *, least: int = 5, alpha: float = 0.05) -> list[Topic]:
    """Topics of now, clearest first. A text counts for the first one it belongs to.

    Args:
        recent: texts of now.
        earlier: texts of before. Without any there is nothing to be new against: no topics.
        least: people that a topic has at the least.
        alpha: chance of finding any topic where nothing changed.
    """
    if not recent or not earlier:
        return []
    now, before = _users(recent), _users(earlier)
    frequent = [phrase for phrase in {**now, **before} if len(now[phrase]) + len(before[phrase]) >= least]
    p = _improbability(
        [(len(now[phrase]), len(before[phrase])) for phrase in frequent], _people(recent), _people(earlier)
    )
    clear = sorted((p[i], -len(phrase), phrase) for i, phrase in enumerate(frequent) if p[i] <= alpha)
    uses = [_phrases(text) for _, text in recent]
    free = set(range(len(recent)))
    topics: list[Topic] = []
    for value, _, phrase in clear:
        members = sorted(item for item in free if phrase in uses[item])
        people = len({recent[item].person for item in members})
        if people >= least:
            topics.append(Topic(phrase, members, people, float(value)))
            free.difference_update(members)
    return topics


def _phrases(text: str) -> set[str]:
    said = words(text)[:FIRST_WORDS]
    return {*said, *(f"{left} {right}" for left, right in pairwise(said))}


def _users(said: Iterable[Said]) -> defaultdict[str, set[str]]:
    """Who uses each phrase."""
    users: defaultdict[str, set[str]] = defaultdict(set)
    for person, text in said:
        for phrase in _phrases(text):
            users[phrase].add(person)
    return users


def _people(said: Iterable[Said]) -> int:
    return len({person for person, _ in said})


def _improbability(users: list[tuple[int, int]], now: int, before: int) -> npt.NDArray[np.float64]:
    """Of each phrase with (users now, users before), the corrected chance of so many users now."""
    from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

    counts = np.array(users, dtype=np.int64).reshape(-1, 2)
    tail = cast("Any", stats).hypergeom.sf(counts[:, 0] - 1, now + before, now, counts.sum(axis=1))
    return np.asarray(tail, dtype=np.float64) * len(counts)
