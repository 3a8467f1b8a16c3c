"""What a proxy learns from and what it is asked: the rows a filter keeps, and tune-labelled prompts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from flywheel.config import FilterConfig
from flywheel.quality.curate import select, to_example
from flywheel.quality.rows import Candidate, prompt_text
from flywheel.quality.score import SignalTable
from flywheel.records import Example, Label, Message
from flywheel.review.settle import opinions, says_right
from flywheel.text.hashing import stable_hash


@dataclass(frozen=True)
class ProxyData:
    """``asked`` holds the right answers as targets; ``learn`` may be trained on, and shares no person with them."""

    asked: list[Example]
    learn: list[Candidate]


def proxy_data(
    rows: Sequence[Candidate],
    answers: Mapping[str, tuple[str, list[Message]]],
    *,
    allowed: Collection[str],
    flow: str,
) -> ProxyData:
    """Part the candidates.

    Args:
        rows: candidates; those held out are never learnt from.
        answers: inference id -> (right answer, conversation), see ``right_answers``.
        allowed: ids whose people agree to training now.
        flow: of the examples.
    """
    people = {row.subject for row in rows if row.inference_id in answers}
    prompts = {_asks(messages) for _, messages in answers.values()}
    learn = [
        row
        for row in rows
        if row.held_out is None
        and row.inference_id in allowed
        and people.isdisjoint((row.subject, row.rater))
        and _asks(row.messages) not in prompts
    ]
    asked = [
        Example(
            example_id=key, flow=flow, messages=messages, target=answer, inference_ids=[key], subject="",
            origin="correction",
        )
        for key, (answer, messages) in sorted(answers.items())
        if key in allowed
    ]  # fmt: skip
    return ProxyData(asked, learn)


def right_answers(rows: Sequence[Candidate], labels: Sequence[Label]) -> dict[str, tuple[str, list[Message]]]:
    """Of each candidate with a settled ``tune`` judgement that names a right answer: it, and what was asked."""
    known = {row.inference_id: row for row in rows}
    said = opinions(label for label in labels if label.split == "tune" and label.inference_id in known)
    found: dict[str, tuple[str, list[Message]]] = {}
    for matter, one in said.items():
        row, label = known[matter.inference_id], one.counts
        if label is None or matter.question != "judge":
            continue
        answer = label.correction if label.correction is not None else row.answer if says_right(label) else None
        if answer is not None and answer.strip():
            found[row.inference_id] = answer, row.messages
    return found


def chosen(
    data: ProxyData, signals: SignalTable, config: FilterConfig, *, max_examples: int, seed: int
) -> list[Example]:
    """What curation would make of the rows with this filter: duplicates, caps and replay share included."""
    kept = select(data.learn, signals, config, max_examples=max_examples, seed=seed).kept
    return [to_example(row) for row in sorted(kept, key=lambda row: stable_hash(str(seed), row.inference_id))]


def _asks(messages: list[Message]) -> str:
    return " ".join(prompt_text(messages).lower().split())
