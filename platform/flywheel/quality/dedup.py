"""Duplicates: exact ones before anything is learnt, near ones and conflicts once rewards are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import islice

from flywheel.quality.asked import asking_the_same
from flywheel.quality.rows import Candidate, Drop, prompt_text
from flywheel.text.answers import answer_key
from flywheel.text.minhash import near_duplicate_groups
from flywheel.text.normalise import normalise
from flywheel.text.overlap import Overlap, OverlapIndex, conversation_texts, stronger

_BLOCK = 1_000
"""Rows compared at once."""


def near_evaluation(rows: Sequence[Candidate], *texts: Sequence[str]) -> dict[str, Overlap]:
    """Inference id -> how it overlaps, for rows whose prompts overlap with one of ``texts``: never trained on.

    The rule is ``text.overlap``'s, which the gate looks for contamination with; each of ``texts`` is compared by
    itself. Rows held out anyway (for tuning) are left alone.
    """
    subjects = [row for row in rows if row.held_out is None]
    found: dict[str, Overlap] = {}
    for index in map(OverlapIndex, texts):
        for start in range(0, len(subjects), _BLOCK):
            block = subjects[start : start + _BLOCK]
            said = [conversation_texts(row.messages) for row in block]
            overlaps = iter(index.find([text for own in said for text in own]))
            for row, own in zip(block, said, strict=True):
                of_row = [overlap for by_text in islice(overlaps, len(own)) for overlap in by_text.values()]
                known = [found[row.inference_id]] if row.inference_id in found else []
                if of_row:
                    found[row.inference_id] = reduce(stronger, [*known, *of_row])
    return found


def exact_duplicates(rows: Sequence[Candidate]) -> tuple[list[Candidate], list[Drop]]:
    """Keep the first of rows that say the same (normalised prompt and answer); rows in, rows out, in order.

    System messages belong to the prompt: what a product retrieves for a question often stands there. The row that
    stays keeps the votes of the others, so that a majority still is one.
    Rows held out for tuning never displace a training row, nor the other way round.
    """
    seen: dict[tuple[str, str, bool], str] = {}
    kept: dict[str, Candidate] = {}
    raters: dict[str, set[str]] = defaultdict(set)
    drops: list[Drop] = []
    for row in rows:
        said = "\n".join(message.content for message in row.messages)
        key = (normalise(said), answer_key(row.target), row.held_out is None)
        first = seen.setdefault(key, row.inference_id)
        raters[first] |= row.raters()
        if first == row.inference_id:
            kept[first] = row
        else:
            drops.append(Drop(inference_id=row.inference_id, reason="duplicate", detail=first))
    return [_seconded(row, raters[name]) for name, row in kept.items()], drops


def _seconded(row: Candidate, raters: set[str]) -> Candidate:
    others = tuple(sorted(raters - {row.rater}))
    return row.model_copy(update={"seconded": others}) if others else row


def near_duplicates(
    rows: Sequence[Candidate],
    *,
    threshold: float,
    reward: Mapping[str, float],
    groups_of: Callable[[Sequence[str]], list[int]] | None = None,
) -> tuple[list[Candidate], list[Drop]]:
    """One row a group of near-duplicate prompts that ask the same: the majority's answer, by reward where votes tie.

    Rows of the losing answers leave as ``conflicting_target``, the rest as ``near_duplicate``; the detail
    names the row that stayed. Of equals the highest reward stays, then the lowest id.

    ``groups_of`` knows the groups of rows by their ids (``index.near``); without it they are made here.
    """
    if groups_of is not None:
        groups = groups_of([row.inference_id for row in rows])
    else:
        groups = near_duplicate_groups([prompt_text(row.messages) for row in rows], threshold)
    members: dict[int, list[Candidate]] = defaultdict(list)
    for group, row in zip(asking_the_same([row.messages for row in rows], groups, threshold), rows, strict=True):
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
        raters[key] |= row.raters()  # one person is one vote, however often they repeat themselves
        best[key] = max(best[key], reward.get(row.inference_id, 0.0))
    answer = max(raters, key=lambda key: (len(raters[key]), best[key], key))
    of_answer = [row for row in group if answer_key(row.target) == answer]
    return min(of_answer, key=lambda row: (-reward.get(row.inference_id, 0.0), row.inference_id))


def _loser(row: Candidate, winner: Candidate) -> Drop:
    conflict = answer_key(row.target) != answer_key(winner.target)
    reason = "conflicting_target" if conflict else "near_duplicate"
    return Drop(inference_id=row.inference_id, reason=reason, detail=winner.inference_id)
