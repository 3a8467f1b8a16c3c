"""MLflow: traces as ``Trace.to_json`` writes them, and rows of ``search_traces`` saved as JSON lines.

Inputs, outputs and most attributes of spans are JSON text. Assessments by people become reactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flywheel.capture.readers.reactions import comment, reaction
from flywheel.capture.readers.shapes import Call, Read, conversation, decoded, lookup, objects, unpacked_object, utc

_MODEL_CALLS: Final = frozenset({"CHAT_MODEL", "LLM"})
_PERSON: Final = "HUMAN"
_NOBODY: Final = "default"
"""MLflow's id of a source that was not named."""


def recognises(data: Mapping[str, Any]) -> bool:
    """``info`` and ``data``, or a row with a trace id and what a trace holds."""
    if isinstance(data.get("info"), Mapping) and isinstance(data.get("data"), Mapping):
        return True
    return "trace_id" in data and ("spans" in data or {"request", "response"} <= data.keys())


def read(data: dict[str, Any]) -> Read:
    """One trace."""
    trace = _trace(data)
    info, body = unpacked_object(trace.get("info")), unpacked_object(trace.get("data"))
    spans = sorted(objects(body.get("spans")), key=lambda span: str(span.get("start_time_unix_nano", "")))
    roots = [span for span in spans if not (span.get("parent_span_id") or span.get("parent_id"))]
    whole = _call(roots[0]) if roots else Call(body.get("request"), body.get("response"))
    metadata = unpacked_object(info.get("trace_metadata") or info.get("request_metadata"))
    feedback, ignored = _reactions(info)
    calls = [_call(span) for span in spans if _attribute(span, "mlflow.spanType") in _MODEL_CALLS]
    fields = {
        **conversation(whole, calls, "data.spans"),
        "ts": utc(info.get("request_time") or info.get("timestamp_ms")),
        "user": metadata.get("mlflow.trace.user"),
        "session_id": metadata.get("mlflow.trace.session"),
        "feedback": feedback,
    }
    return Read({key: value for key, value in fields.items() if value not in (None, "")}, ignored)


def _trace(data: dict[str, Any]) -> dict[str, Any]:
    """A row holds the trace as text, and its parts as columns; older ones the columns alone."""
    if "info" in data:
        return data
    whole = unpacked_object(data.get("trace"))
    return whole if "info" in whole else {"info": data, "data": data}


def _call(span: Mapping[str, Any]) -> Call:
    inputs, outputs = _attribute(span, "mlflow.spanInputs"), _attribute(span, "mlflow.spanOutputs")
    model = _attribute(span, "mlflow.llm.model") or lookup(outputs, "model")
    return Call(inputs, outputs, model if isinstance(model, str) else None)


def _attribute(span: Mapping[str, Any], name: str) -> Any:
    return decoded(unpacked_object(span.get("attributes")).get(name))


def _reactions(info: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    found: list[dict[str, Any]] = []
    ignored: list[str] = []
    for item in objects(info.get("assessments")):
        if item.get("valid") is False:
            continue  # replaced by a later one
        name, source = item.get("assessment_name"), unpacked_object(item.get("source"))
        person = source.get("source_type") == _PERSON
        said = reaction(name, _value(item)) if person else None
        written = comment(item.get("rationale")) if person else None
        author = source.get("source_id")
        more = {"ts": utc(item.get("create_time")), "user": author if author != _NOBODY else None}
        found += [{**entry, **{k: v for k, v in more.items() if v}} for entry in (said, written) if entry]
        if said is None:
            ignored.append(f"assessment {name}" + ("" if person else f" by {source.get('source_type')}"))
    return found, ignored


def _value(assessment: Mapping[str, Any]) -> Any:
    for kind in ("feedback", "expectation"):
        held = unpacked_object(assessment.get(kind))
        if held:
            return held["value"] if "value" in held else decoded(lookup(held, "serialized_value.value"))
    return None
