"""Argilla 2: ``dataset.records.to_json`` and ``from_json``, an array of records.

A record has ``id``, ``fields``, ``metadata``, ``suggestions`` (question -> value, score, agent) and ``responses``
(question -> a list of value and user_id).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from flywheel.review.exchange.common import (
    BETTER,
    CORRECTION,
    RATING,
    VERDICT,
    VERDICTS,
    Annotation,
    FormatProblem,
    Reading,
    Slip,
    both,
    compared,
    judged,
    rated,
    served,
)
from flywheel.review.guideline import Guideline
from flywheel.review.queue import QueueItem
from flywheel.review.settle import Question

_QUESTIONS: dict[Question, str] = {
    "judge": f'rg.LabelQuestion("{VERDICT}", labels={list(VERDICTS)}), rg.TextQuestion("{CORRECTION}", required=False)',
    "rate": f'rg.RatingQuestion("{RATING}", values=[1, 2, 3, 4, 5])',
    "compare": f'rg.LabelQuestion("{BETTER}", labels=["first", "second", "tie"])',
}


def write(item: QueueItem, slip: Slip) -> dict[str, Any]:
    """One record; of a verdict the correction is filled with the served answer."""
    said = "\n\n".join(f"{message.role}: {message.content}" for message in item.inference.messages)
    first, second = both(item, slip)
    answers = {"first": first, "second": second} if slip.question == "compare" else {"answer": served(item)}
    filled = {CORRECTION: {"value": served(item), "score": None, "agent": "served answer"}}
    return {
        "id": item.inference.inference_id,
        "fields": {"conversation": said, **answers},
        "metadata": slip.fields(item),
        "suggestions": filled if slip.question == "judge" else {},
        "responses": {},
        "vectors": {},
    }


def read(record: dict[str, Any], reading: Reading) -> list[Annotation]:
    """What people answered to one record; drafts and discarded responses are ignored.

    Raises:
        FormatProblem: the record is none, or foreign, or a response makes no sense.
    """
    slip, responses = record.get("metadata"), record.get("responses")
    if not isinstance(slip, dict) or not isinstance(responses, dict):
        raise FormatProblem("metadata", "must be there, as responses must: is this a file of dataset.records.to_json?")
    item = reading.item(slip, "metadata")
    found: list[Annotation] = []
    for user, said in _by_user(responses, reading).items():
        who = reading.who(user, "argilla", "responses")
        verdict = judged(said.get(VERDICT), said.get(CORRECTION), item, f"responses.{VERDICT}")
        found += [reading.made(item, slip, who, verdict)] if verdict else []
        if RATING in said:
            found.append(reading.made(item, slip, who, rated(said[RATING], f"responses.{RATING}")))
        if BETTER in said:
            given, other = compared(said[BETTER], record.get("fields") or {}, item, f"responses.{BETTER}")
            found.append(reading.made(item, slip, who, given, other_answer=other))
    return found


def setup(question: Question, guideline: Guideline) -> str:
    """Python that makes a dataset and loads the file."""
    fields = ["conversation", "first", "second"] if question == "compare" else ["conversation", "answer"]
    made = ", ".join(f'rg.TextField("{name}")' for name in fields)
    return (
        "import argilla as rg\n"
        f"settings = rg.Settings(guidelines={guideline.text or None!r}, allow_extra_metadata=True,\n"
        f"    fields=[{made}],\n"
        f"    questions=[{_QUESTIONS[question]}])\n"
        'dataset = rg.Dataset("flywheel", settings=settings, client=client).create()\n'
        'dataset.records.from_json("FILE")   # and back: dataset.records(with_responses=True).to_json("FILE")'
    )


def _by_user(responses: dict[str, Any], reading: Reading) -> dict[str | None, dict[str, Any]]:
    said: dict[str | None, dict[str, Any]] = defaultdict(dict)
    for question, answers in responses.items():
        if question not in (VERDICT, CORRECTION, RATING, BETTER):
            reading.ignored[f"question {question}"] += 1
            continue
        if not isinstance(answers, list) or not all(isinstance(one, dict) and "value" in one for one in answers):
            raise FormatProblem(f"responses.{question}", "must be a list of objects with a value")
        for one in answers:
            if one.get("status") in ("draft", "discarded"):
                reading.ignored[f"{one['status']} response"] += 1
            else:
                said[one.get("user_id")][question] = one["value"]
    return said
