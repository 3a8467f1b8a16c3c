"""Feedback as votes: who says of which answer to which prompt that it is good or bad. Flat arrays.

An *item* is a prompt (near-duplicates are one), a *cell* is one answer to it. Praise and a correction's text are
votes for a cell, a thumb down is a vote against one. What says neither (dwell, clicks, comments) is no vote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flywheel.quality.rows import prompt_text
from flywheel.records import Feedback, Inference, Message
from flywheel.text.answers import answer_key
from flywheel.text.minhash import near_duplicate_groups
from flywheel.text.normalise import normalise

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PRAISE = frozenset({"copy", "completion"})
"""Use of an answer that counts as liking it, as it does for candidates."""


@dataclass(frozen=True)
class Statements:
    """n votes, and the item of each cell. Codes are dense and start at 0; ``session`` is -1 where there is none."""

    row: Ints
    """Index of the vote's feedback in the sequence it was made from."""
    rater: Ints
    cell: Ints
    text: Ints
    """Group of near-duplicate answers, over all prompts."""
    positive: Bools
    at: Floats
    """Seconds."""
    session: Ints
    cell_item: Ints
    raters: list[str]

    @property
    def item(self) -> Ints:
        """The prompt of each vote."""
        return self.cell_item[self.cell]


def statements(
    inferences: Mapping[str, Inference], feedback: Sequence[Feedback], *, same_prompt: float, same_text: float
) -> Statements:
    """The votes in ``feedback`` about answers that were served, in its order.

    Args:
        inferences: by id; feedback about others is no vote.
        feedback: any rows.
        same_prompt: Jaccard index from which two prompts are one item; 1 compares normal forms only.
        same_text: the same for answers, which only groups them for ``text``: cells compare by value.
    """
    said = [
        (index, row, inferences[row.inference_id], *vote)
        for index, row in enumerate(feedback)
        if row.inference_id in inferences and (vote := _vote(row, inferences[row.inference_id])) is not None
    ]
    answers = _Codes()
    answer = np.array([answers.of(answer_key(text)) for _, _, _, text, _ in said], dtype=np.int64)
    items = _items([inference for _, _, inference, _, _ in said], same_prompt)
    cells, cell = np.unique(items * max(1, len(answers.names)) + answer, return_inverse=True)
    raters, sessions = _Codes(), _Codes()
    alike = np.array(near_duplicate_groups(answers.names, same_text), dtype=np.int64)
    return Statements(
        row=np.array([index for index, *_ in said], dtype=np.int64),
        rater=np.array([raters.of(row.subject) for _, row, *_ in said], dtype=np.int64),
        cell=cell.astype(np.int64),
        text=alike[answer] if said else answer,
        positive=np.array([good for *_, good in said], dtype=bool),
        at=np.array([row.ts.timestamp() for _, row, *_ in said], dtype=np.float64),
        # A session is its asker's: a reviewer who corrects an answer in it is not one actor with whoever asked.
        session=np.array(
            [
                sessions.of(one.session_id) if one.session_id is not None and row.subject == one.subject else -1
                for _, row, one, _, _ in said
            ],
            dtype=np.int64,
        ),
        cell_item=cells // max(1, len(answers.names)),
        raters=raters.names,
    )


def _vote(row: Feedback, inference: Inference) -> tuple[str, bool] | None:
    """(answer, whether it is called good), or None."""
    if row.kind == "correction":
        text = (row.text or "").strip()
        return (text, True) if text else None
    served = inference.choice_served
    if not 0 <= served < len(inference.choices) or inference.rated_choice(row.choice_index) != served:
        return None
    good = _opinion(row)
    return None if good is None else (inference.choices[served], good)


def _opinion(row: Feedback) -> bool | None:
    if row.kind in PRAISE:
        return True
    middle = {"thumbs": 0.0, "rating": 3.0}.get(row.kind)
    if middle is None or row.value is None or row.value == middle:
        return None
    return row.value > middle


def _items(inferences: Sequence[Inference], threshold: float) -> Ints:
    """Prompts that are near-duplicates and have the same system message are one item."""
    prompts, systems = _Codes(), _Codes()
    by_id: dict[str, tuple[int, int]] = {}
    for one in inferences:
        if one.inference_id not in by_id:
            by_id[one.inference_id] = (
                prompts.of(normalise(prompt_text(one.messages))),
                systems.of(_system(one.messages)),
            )
    alike = near_duplicate_groups(prompts.names, threshold)
    pairs = _Codes()
    codes = [by_id[one.inference_id] for one in inferences]
    return np.array([pairs.of(f"{alike[prompt]} {system}") for prompt, system in codes], dtype=np.int64)


def _system(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages if message.role == "system")


class _Codes:
    """Names -> dense numbers, in order of appearance."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def of(self, name: str) -> int:
        return self._known.setdefault(name, len(self._known))

    @property
    def names(self) -> list[str]:
        return list(self._known)
