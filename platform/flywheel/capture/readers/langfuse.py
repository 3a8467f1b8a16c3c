"""Langfuse: traces from its interface, its API and its blob storage, and rows of its observations.

The names are those of the API (``userId``) or of the blob storage (``user_id``). Scores are objects, or in table
exports one column a score with the list of its values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flywheel.capture.import_format import RefusedError
from flywheel.capture.readers.reactions import comment, reaction
from flywheel.capture.readers.shapes import Call, Read, conversation, objects, unpacked_object, utc

_MARKS: Final = frozenset(
    {
        "userId", "user_id", "sessionId", "session_id", "traceId", "trace_id", "projectId", "project_id",
        "observations", "startTime", "start_time", "htmlPath", "bookmarked",
    }
)  # fmt: skip
_MODEL_CALL: Final = "GENERATION"
_JUDGED: Final = "EVAL"
"""Source of scores that a model gave: they are no reaction of a person."""


def recognises(data: Mapping[str, Any]) -> bool:
    """A trace with its observations, or an input or output with something that only Langfuse has."""
    if isinstance(data.get("trace"), Mapping):
        return "observations" in data
    return not {"input", "output"}.isdisjoint(data) and not _MARKS.isdisjoint(data)


def read(data: dict[str, Any]) -> Read:
    """One trace, or one model call of an export of observations."""
    trace = (
        {**unpacked_object(data.get("trace")), "observations": data.get("observations")} if "trace" in data else data
    )
    kind = trace.get("type")
    if kind not in (None, _MODEL_CALL):
        raise RefusedError("type", f"only observations of type {_MODEL_CALL} are interactions")
    calls = [item for item in objects(trace.get("observations")) if item.get("type") == _MODEL_CALL]
    calls.sort(key=lambda item: str(_first(item, "startTime", "start_time")))
    feedback, ignored = _reactions(trace)
    fields = {
        **conversation(_call(trace), [_call(item) for item in calls], "input"),
        "ts": utc(_first(trace, "timestamp", "startTime", "start_time")),
        "user": _first(trace, "userId", "user_id"),
        "session_id": _first(trace, "sessionId", "session_id"),
        "feedback": feedback,
    }
    return Read({key: value for key, value in fields.items() if value not in (None, "")}, ignored)


def _call(item: Mapping[str, Any]) -> Call:
    return Call(
        item.get("input"), item.get("output"), _first(item, "model", "providedModelName", "provided_model_name")
    )


def _reactions(trace: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    found: list[dict[str, Any]] = []
    ignored: list[str] = []
    for score in [*objects(trace.get("scores")), *_columns(trace)]:
        judged = score.get("source") == _JUDGED
        said = None if judged else reaction(score.get("name"), _value(score))
        written = None if judged else comment(score.get("comment"))
        more = {"ts": utc(score.get("timestamp")), "user": _first(score, "authorUserId", "author_user_id")}
        found += [{**item, **{k: v for k, v in more.items() if v}} for item in (said, written) if item]
        if said is None:
            ignored.append(f"score {score.get('name')}" + (" of an evaluator" if judged else ""))
    return found, ignored


def _value(score: Mapping[str, Any]) -> Any:
    text = _first(score, "stringValue", "string_value")
    return text if _first(score, "dataType", "data_type") in ("CATEGORICAL", "TEXT") else score.get("value", text)


def _columns(trace: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Scores of a table export; a column that is no score has no name that stands for a reaction."""
    for name, values in trace.items():
        if isinstance(values, list):
            yield from ({"name": name, "value": value} for value in values if reaction(name, value))


def _first(item: Mapping[str, Any], *names: str) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)
