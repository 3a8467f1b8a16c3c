"""Blind comparisons: the served answer beside another one, in an order that says nothing. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from flywheel.records import Inference, ShadowPair
from flywheel.review.queue import Other, QueueItem
from flywheel.text.answers import answer_key, same_answer
from flywheel.text.hashing import unit_interval


def find_others(inferences: Iterable[Inference], pairs: Iterable[ShadowPair]) -> dict[str, list[Other]]:
    """By inference id the answers that its served one can be compared with: other choices, and candidates' answers.

    Answers that say the same as the served one, or as each other, are left out.
    """
    by_shadow: dict[str, list[Other]] = defaultdict(list)
    for pair in pairs:
        if pair.candidate_answer is not None:
            by_shadow[pair.inference_id].append(Other(pair.candidate_answer, pair.candidate))
    found = {row.inference_id: _distinct(row, by_shadow.get(row.inference_id, [])) for row in inferences}
    return {inference_id: others for inference_id, others in found.items() if others}


def with_other(items: Iterable[QueueItem], others: Mapping[str, Sequence[Other]], seed: int) -> list[QueueItem]:
    """The items that can be compared, in their order, each with one other answer, drawn by a seeded hash."""
    return [
        item._replace(other=min(found, key=lambda other: unit_interval("compare-with", str(seed), other.answer)))
        for item in items
        if (found := others.get(item.inference.inference_id))
    ]


def served_first(item: QueueItem, seed: int) -> bool:
    """Whether the served answer is shown first: for each pair the same every time, for half of the pairs so."""
    other = item.other.answer if item.other else ""
    return unit_interval("compare-order", str(seed), item.inference.inference_id, other) < 0.5


def _distinct(row: Inference, shadow: Iterable[Other]) -> list[Other]:
    if not 0 <= row.choice_served < len(row.choices):
        return []
    served = row.choices[row.choice_served]
    by = row.choice_versions or [row.model_version] * len(row.choices)
    choices = (Other(text, by[index]) for index, text in enumerate(row.choices) if index != row.choice_served)
    found = {answer_key(other.answer): other for other in [*choices, *shadow] if not same_answer(other.answer, served)}
    return list(found.values())
