"""Which answers failed, by what sign, and which of them may judge. Pure.

===========  =========================================================================================
explicit     ``correction`` to something else, ``thumbs`` down, ``rating`` of 1 or 2
judge        judges preferred the other model's answer to the same messages more often than this one
reprompt     the person asked again: an event says so, or a next request repeats most of the question
abandon      an event says that the person gave up
===========  =========================================================================================

The last three are hints. An answer that somebody praised, copied or completed something with has not failed by them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal

from flywheel.evaluation.cases import slice_of
from flywheel.evaluation.slices import question, served
from flywheel.records import STAND_INS, Feedback, Inference, Judgement
from flywheel.review.splits import Failure, FailureSplit, Side, failure_split, sides
from flywheel.text.minhash import jaccard

Sign = Literal["correction", "thumbs", "rating", "judge", "reprompt", "abandon"]
SIGNS: Final[tuple[Sign, ...]] = ("correction", "thumbs", "rating", "judge", "reprompt", "abandon")
"""The clearest first."""
EXPLICIT: Final = frozenset({"correction", "thumbs", "rating"})
ASKED_AGAIN: Final = 0.5
"""Jaccard index of two questions from which the second repeats the first; below it the conversation goes on."""

Signs = Mapping[str, frozenset[Sign]]
"""By inference id; only what failed is in it."""


def says_wrong(event: Feedback, answer: str) -> bool:
    """Whether somebody said that ``answer`` was wrong: disliked it, rated it 1 or 2, or corrected it to another."""
    if event.kind == "thumbs":
        return (event.value or 0) < 0
    if event.kind == "rating":
        return event.value is not None and event.value <= 2
    return event.kind == "correction" and (event.text or "").strip() != answer.strip()


def signs_of_failure(
    inferences: Iterable[Inference], feedback: Iterable[Feedback], judgements: Iterable[Judgement] = ()
) -> Signs:
    """What speaks against each answer that failed. Rows without an answer are passed over."""
    rows = {row.inference_id: row for row in inferences if served(row) is not None}
    found: dict[str, set[Sign]] = defaultdict(set)
    used: set[str] = set()
    for event in feedback:
        row = rows.get(event.inference_id)
        if row is None:
            continue
        if says_wrong(event, served(row) or ""):
            found[row.inference_id].add(_explicit(event))
        elif event.kind in {"reprompt", "abandon"}:
            found[row.inference_id].add("reprompt" if event.kind == "reprompt" else "abandon")
        elif _says_right(event):
            used.add(row.inference_id)
    for inference_id in _lost(rows, judgements):
        found[inference_id].add("judge")
    for inference_id in _asked_again(rows):
        found[inference_id].add("reprompt")
    return {key: frozenset(signs) for key, signs in sorted(found.items()) if signs & EXPLICIT or key not in used}


def split_failures(
    inferences: Iterable[Inference], signs: Signs, *, share: float, seed: int, decided: Mapping[str, Side]
) -> tuple[list[Failure], FailureSplit]:
    """All failures, and their two sides (``review.splits.failure_split``), stratified by what was answered.

    People with explicit failures are split first: only these failures can be trained on, and hints must not shift how
    many of them are.
    """
    rows = sorted((row for row in inferences if row.inference_id in signs), key=lambda row: row.inference_id)
    failures = [
        Failure(inference_id=row.inference_id, subject=row.subject, cluster=slice_of(row, served(row) or "") or "other")
        for row in rows
    ]
    explicit = [failure for failure in failures if signs[failure.inference_id] & EXPLICIT]
    first = sides(explicit, failure_split(explicit, share=share, seed=seed, decided=decided))
    return failures, failure_split(failures, share=share, seed=seed, decided={**decided, **first})


def clearest(signs: Collection[Sign]) -> int:
    """Place of the clearest sign in ``SIGNS``: a key to sort by."""
    return min(SIGNS.index(sign) for sign in signs)


def _explicit(event: Feedback) -> Sign:
    return "correction" if event.kind == "correction" else "thumbs" if event.kind == "thumbs" else "rating"


def _says_right(event: Feedback) -> bool:
    if event.kind in {"thumbs", "rating"}:
        return (event.value or 0) > (0 if event.kind == "thumbs" else 3)
    return event.kind in {"copy", "completion", "correction"}  # a correction that is wrong was dealt with before


def _lost(rows: Mapping[str, Inference], judgements: Iterable[Judgement]) -> list[str]:
    """Answers that lost more comparisons than they won; ties and abstentions count for neither."""
    balance: Counter[str] = Counter()
    for opinion in judgements:
        row = rows.get(opinion.item_id)
        if row is None or opinion.error is not None or opinion.left_version == opinion.right_version:
            continue
        versions = {"left": opinion.left_version, "right": opinion.right_version}
        if not STAND_INS.isdisjoint(versions.values()):  # asked to measure the judge, of answers of no certain model
            continue
        if opinion.verdict in versions and row.model_version in versions.values():
            balance[opinion.item_id] += 1 if versions[opinion.verdict] == row.model_version else -1
    return [inference_id for inference_id, wins in balance.items() if wins < 0]


def _asked_again(rows: Mapping[str, Inference]) -> list[str]:
    """Answers after which the same person put nearly the same question."""
    pairs = [(rows[row.parent_id], row) for row in rows.values() if row.parent_id is not None and row.parent_id in rows]
    return [
        parent.inference_id
        for parent, child in pairs
        if parent.subject == child.subject
        and jaccard(question(parent.messages), question(child.messages)) >= ASKED_AGAIN
    ]
