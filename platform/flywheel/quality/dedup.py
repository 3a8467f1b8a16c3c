"""Duplicates: exact ones before anything is learnt, near ones and conflicts once rewards are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from flywheel.quality.rows import Candidate, Drop, answer_key, comparable_texts, prompt_text
from flywheel.text.minhash import jaccard, near_duplicate_groups
from flywheel.text.normalise import normalise

EVALUATION_JACCARD = 0.8
"""Near-duplicate of something that is judged with: never trained on."""


def near_evaluation(rows: Sequence[Candidate], texts: Sequence[str]) -> dict[str, float]:
    """Inference id -> similarity, for rows at least ``EVALUATION_JACCARD`` similar to one of ``texts``.

    Groups only narrow the search: a row is excluded for what it shares with a text itself, not for a
    chain of other rows between them. Rows held out anyway (for tuning) are left alone.
    """
    wanted = sorted(set(texts))
    said = [(row.inference_id, text) for row in rows if row.held_out is None for text in comparable_texts(row.messages)]
    if not said or not wanted:
        return {}
    groups = near_duplicate_groups([*(text for _, text in said), *wanted], EVALUATION_JACCARD)
    judged: dict[int, list[str]] = defaultdict(list)
    for group, text in zip(groups[len(said) :], wanted, strict=True):
        judged[group].append(text)
    similar: dict[str, float] = {}
    for (inference_id, text), group in zip(said, groups, strict=False):
        closest = max((jaccard(text, other) for other in judged.get(group, ())), default=0.0)
        if closest >= EVALUATION_JACCARD or any(normalise(text) == normalise(other) for other in judged.get(group, ())):
            similar[inference_id] = max(closest, EVALUATION_JACCARD, similar.get(inference_id, 0.0))
    return similar


def exact_duplicates(rows: Sequence[Candidate]) -> tuple[list[Candidate], list[Drop]]:
    """Keep the first of rows that say the same (normalised prompt and answer); rows in, rows out, in order.

    Rows held out for tuning never displace a training row, nor the other way round.
    """
    seen: dict[tuple[str, str, bool], str] = {}
    kept: list[Candidate] = []
    drops: list[Drop] = []
    for row in rows:
        key = (normalise(prompt_text(row.messages)), answer_key(row.target), row.held_out is None)
        first = seen.setdefault(key, row.inference_id)
        if first == row.inference_id:
            kept.append(row)
        else:
            drops.append(Drop(inference_id=row.inference_id, reason="duplicate", detail=first))
    return kept, drops


def near_duplicates(
    rows: Sequence[Candidate], *, threshold: float, reward: Mapping[str, float]
) -> tuple[list[Candidate], list[Drop]]:
    """One row a group of near-duplicate prompts: the majority's answer, by reward where votes tie.

    Rows of the losing answers leave as ``conflicting_target``, the rest as ``near_duplicate``; the detail
    names the row that stayed. Of equals the highest reward stays, then the lowest id.
    """
    groups = near_duplicate_groups([prompt_text(row.messages) for row in rows], threshold) if rows else []
    members: dict[int, list[Candidate]] = defaultdict(list)
    for group, row in zip(groups, rows, strict=True):
        members[group].append(row)
    stays: set[str] = set()
    drops: list[Drop] = []
    for group in members.values():
        winner = _winner(group, reward)
        stays.add(winner.inference_id)
        drops += [_loser(row, winner) for row in group if row is not winner]
    return [row for row in rows if row.inference_id in stays], drops


def _winner(group: list[Candidate], reward: Mapping[str, float]) -> Candidate:
    raters: dict[str, set[str]] = defaultdict(set)
    best: dict[str, float] = defaultdict(lambda: float("-inf"))
    for row in group:
        key = answer_key(row.target)
        raters[key].add(row.rater)  # one person is one vote, however often they repeat themselves
        best[key] = max(best[key], reward.get(row.inference_id, 0.0))
    answer = max(raters, key=lambda key: (len(raters[key]), best[key], key))
    of_answer = [row for row in group if answer_key(row.target) == answer]
    return min(of_answer, key=lambda row: (-reward.get(row.inference_id, 0.0), row.inference_id))


def _loser(row: Candidate, winner: Candidate) -> Drop:
    conflict = answer_key(row.target) != answer_key(winner.target)
    reason = "conflicting_target" if conflict else "near_duplicate"
    return Drop(inference_id=row.inference_id, reason=reason, detail=winner.inference_id)
