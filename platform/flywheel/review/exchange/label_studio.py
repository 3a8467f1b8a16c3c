"""Label Studio: its JSON, an array of tasks with ``data``, ``predictions`` and ``annotations``.

An annotation has ``completed_by`` (an id, or an object with an e-mail), ``was_cancelled``, ``created_at``,
``updated_at``, ``lead_time`` in seconds, and ``result``: for each control its ``from_name``, ``type`` and ``value``
(``choices``, ``text``, ``rating`` or ``selected``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from flywheel.records import in_utc
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

_TIE: Final = "tie"
_SIDES: Final = {"left": "first", "right": "second"}
_CHOICES = "".join(f'<Choice value="{name}"/>' for name in VERDICTS)
_CONTROLS: dict[Question, str] = {
    "judge": f'<Text name="answer" value="$answer"/><Choices name="{VERDICT}" toName="answer" choice="single">'
    f'{_CHOICES}</Choices><TextArea name="{CORRECTION}" toName="answer" editable="true" maxSubmissions="1"/>',
    "rate": f'<Text name="answer" value="$answer"/><Rating name="{RATING}" toName="answer" maxRating="5"/>',
    "compare": f'<Pairwise name="{BETTER}" toName="first,second"/><Text name="first" value="$first"/>'
    f'<Text name="second" value="$second"/><Choices name="{_TIE}" toName="first"><Choice value="tie"/></Choices>',
}


def write(item: QueueItem, slip: Slip) -> dict[str, Any]:
    """One task; of a verdict the correction is filled with the served answer, as a prediction."""
    said = [{"author": message.role, "text": message.content} for message in item.inference.messages]
    first, second = both(item, slip)
    answers = {"first": first, "second": second} if slip.question == "compare" else {"answer": served(item)}
    filled = {
        "id": "served",
        "from_name": CORRECTION,
        "to_name": "answer",
        "type": "textarea",
        "value": {"text": [served(item)]},
    }
    predictions = [{"model_version": "served answer", "result": [filled]}] if slip.question == "judge" else []
    return {"data": {**slip.fields(item), "conversation": said, **answers}, "predictions": predictions}


def read(record: dict[str, Any], reading: Reading) -> list[Annotation]:
    """What people did with one task; cancelled annotations are ignored.

    Raises:
        FormatProblem: the task is none, or foreign, or an annotation makes no sense.
    """
    slip, annotations = record.get("data"), record.get("annotations")
    if not isinstance(slip, dict) or not isinstance(annotations, list):
        raise FormatProblem("data", "must be there, as annotations must: is this an export as JSON, not as JSON-MIN?")
    item = reading.item(slip, "data")
    found: list[Annotation] = []
    for number, one in enumerate(annotations):
        where = f"annotations.{number}"
        if not isinstance(one, dict) or not isinstance(one.get("result"), list):
            raise FormatProblem(where, "must be an object with a result")
        if one.get("was_cancelled"):
            reading.ignored["cancelled annotation"] += 1
            continue
        found += _annotations(one, slip, item, reading=reading, where=where)
    return found


def setup(question: Question, guideline: Guideline) -> str:
    """The project's labelling interface; the guideline goes into the project's instructions."""
    header = '<Paragraphs name="conversation" value="$conversation" layout="dialogue" nameKey="author" textKey="text"/>'
    told = f"\nInstructions of the project:\n{guideline.text}" if guideline.text else ""
    return f"<View>{header}{_CONTROLS[question]}</View>{told}"


def _annotations(
    one: dict[str, Any], slip: dict[str, Any], item: QueueItem, *, reading: Reading, where: str
) -> list[Annotation]:
    said = _values(one["result"], reading, where)
    by = one.get("completed_by")
    who = reading.who(by.get("email") or by.get("id") if isinstance(by, dict) else by, "label-studio", where)
    rest = {"ts": _time(one, where), "seconds": _seconds(one.get("lead_time"))}
    found: list[Annotation] = []
    verdict = judged(said.get(VERDICT), said.get(CORRECTION), item, f"{where}.{VERDICT}")
    found += [reading.made(item, slip, who, verdict, **rest)] if verdict else []
    if RATING in said:
        found.append(reading.made(item, slip, who, rated(said[RATING], f"{where}.{RATING}"), **rest))
    if BETTER in said or _TIE in said:
        given, other = compared(said.get(_TIE, said.get(BETTER)), slip, item, f"{where}.{BETTER}")
        found.append(reading.made(item, slip, who, given, other_answer=other, **rest))
    return found


def _values(results: list[Any], reading: Reading, where: str) -> dict[str, Any]:
    """Control -> its one value: the choice, the text, the number, first or second."""
    said: dict[str, Any] = {}
    for one in results:
        name, value = (one.get("from_name"), one.get("value")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(value, dict):
            raise FormatProblem(f"{where}.result", "must hold objects with from_name and value")
        if name not in (VERDICT, CORRECTION, RATING, BETTER, _TIE):
            reading.ignored[f"control {name}"] += 1
            continue
        said[name] = _value(value)
    return said


def _value(value: dict[str, Any]) -> Any:
    if "selected" in value:
        return _SIDES.get(value["selected"], value["selected"])
    found = next((value[key] for key in ("choices", "text", "rating") if key in value), None)
    return (found[-1] if found else None) if isinstance(found, list) else found


def _time(one: dict[str, Any], where: str) -> datetime | None:
    said = one.get("updated_at") or one.get("created_at")
    if said is None:
        return None
    try:
        ts = datetime.fromisoformat(said)
        return in_utc(ts if ts.tzinfo else ts.replace(tzinfo=UTC))
    except (TypeError, ValueError) as error:
        raise FormatProblem(f"{where}.updated_at", "must be a time as in 2026-11-20T10:00:00Z") from error


def _seconds(value: Any) -> float | None:
    return round(float(value), 3) if isinstance(value, int | float) else None
