"""The informative queue: answers from which a label teaches most, first. Pure.

An answer's place is ``disagreement x uncertainty x coverage``, each in [0.1, 1] so that none of them alone hides it:

disagreement   do those who spoke contradict each other? Four times the variance of their votes: every thumb, rating
               and correction of a user, every annotator's label, and the reward model's preference. One voice: 0.
uncertainty    how little is known? 1 where the share that says right is one half, 0 where it is 0 or 1; the share
               is that of the votes after Laplace's rule, (right + 1) / (n + 2), averaged with the same of the reward
               model's preference where there is one.
coverage       1 / (1 + labels of the answer's slice), those further up in this queue included.

Drawn by what is known about them, these answers are no sample of anything: their labels are ``curated``.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from flywheel.records import Feedback, Inference, Label
from flywheel.review.queue import QueueItem, place
from flywheel.review.settle import opinions, says_right

FLOOR: Final = 0.1


class Factors(NamedTuple):
    """Why an answer stands where it does; each factor in [0.1, 1]."""

    disagreement: float
    uncertainty: float
    coverage: float

    @property
    def score(self) -> float:
        """The product."""
        return self.disagreement * self.uncertainty * self.coverage


class Known(NamedTuple):
    """What is known about one answer."""

    votes: tuple[bool, ...] = ()
    reward: float | None = None
    """The reward model's preference for the served answer, in [0, 1]."""


def informative_queue(
    items: Iterable[QueueItem],
    *,
    labels: Sequence[Label],
    feedback: Iterable[Feedback],
    rewards: Mapping[str, float],
    slicer: Callable[[Inference], str],
    seed: int,
) -> list[QueueItem]:
    """Order answers by what a label of them teaches; each item says why.

    Args:
        items: what may be judged (``review.queue.usable``).
        labels: the labels that hold now; adjudicated answers are left out.
        feedback: reactions of users.
        rewards: preference for the served answer in [0, 1], by inference id, where it was measured.
        slicer: the slice or cluster of an answer.
        seed: of the order among equals.
    """
    settled = {matter.inference_id for matter, one in opinions(labels).items() if one.ruling is not None}
    votes = _votes(labels, feedback)
    labelled = {label.inference_id for label in labels}
    waiting: list[_Waiting] = []
    covered: Counter[str] = Counter()
    for item in items:
        identity, group = item.inference.inference_id, slicer(item.inference)
        covered[group] += identity in labelled
        if identity not in settled:
            known = Known(tuple(votes[identity]), rewards.get(identity))
            order = -factors(known, 0).score
            waiting.append(_Waiting(order, place("informative", seed, item), item, group, known))
    return _greedy(waiting, covered)


def factors(known: Known, covered: int) -> Factors:
    """The three factors of an answer whose slice has ``covered`` labels."""
    said = [float(vote) for vote in known.votes] + ([known.reward] if known.reward is not None else [])
    mean = sum(said) / len(said) if said else 0.5
    variance = sum((vote - mean) ** 2 for vote in said) / len(said) if said else 0.0
    shares = [(sum(known.votes) + 1) / (len(known.votes) + 2), *([known.reward] if known.reward is not None else [])]
    unsure = sum(1 - abs(2 * share - 1) for share in shares) / len(shares)
    return Factors(_floored(4 * variance), _floored(unsure), _floored(1 / (1 + covered)))


class _Waiting(NamedTuple):
    """An answer in its slice: smallest first, so scores are negative."""

    order: float
    """Minus disagreement times uncertainty: coverage is the same for the whole slice."""
    tie: tuple[float, str]
    item: QueueItem
    group: str
    known: Known


def _greedy(waiting: list[_Waiting], covered: Counter[str]) -> list[QueueItem]:
    """Take the best, count it to its slice, go on.

    Coverage lowers the scores of a whole slice alike, so the order within a slice never changes: only the first of
    each slice competes, and taking one moves that slice alone.
    """
    slices: dict[str, list[_Waiting]] = defaultdict(list)
    for one in waiting:
        slices[one.group].append(one)
    for group in slices.values():
        group.sort(key=lambda one: (one.order, one.tie), reverse=True)  # the best one last
    heap = [_first(group, covered) for group in slices.values()]
    heapq.heapify(heap)
    chosen: list[QueueItem] = []
    while heap:
        group = heapq.heappop(heap)[-1]
        first, count = slices[group].pop(), covered[group]
        why = _why(factors(first.known, count), first.known, group, count)
        chosen.append(first.item._replace(origin="curated", why=why))
        covered[group] += 1
        if slices[group]:
            heapq.heappush(heap, _first(slices[group], covered))
    return chosen


def _first(group: Sequence[_Waiting], covered: Counter[str]) -> tuple[float, tuple[float, str], str]:
    """Where the best answer of a slice stands among the best of all."""
    best = group[-1]
    return -factors(best.known, covered[best.group]).score, best.tie, best.group


def _votes(labels: Sequence[Label], feedback: Iterable[Feedback]) -> Mapping[str, list[bool]]:
    votes: Mapping[str, list[bool]] = defaultdict(list)
    for event in feedback:
        if event.kind == "correction":
            votes[event.inference_id].append(False)
        elif event.kind in {"thumbs", "rating"} and event.value is not None:
            middle = 0 if event.kind == "thumbs" else 3
            if event.value != middle:
                votes[event.inference_id].append(event.value > middle)
    for label in labels:
        right = says_right(label)
        if right is not None:
            votes[label.inference_id].append(right)
    return votes


def _why(now: Factors, known: Known, group: str, covered: int) -> str:
    """The factors, but not which way anybody leans: that would lean the reviewer too."""
    voices = len(known.votes) + (known.reward is not None)
    return (
        f"disagreement {now.disagreement:.2f} of {voices} voices x uncertainty {now.uncertainty:.2f} x coverage "
        f"{now.coverage:.2f} ({covered} labels of '{group}') = {now.score:.3f}"
    )


def _floored(value: float) -> float:
    return FLOOR + (1 - FLOOR) * min(1.0, max(0.0, value))
