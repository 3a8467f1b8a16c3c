"""Examples of request bodies in the document. A test sends each of them."""

from __future__ import annotations

from typing import Any

_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
_SCHEMA = {"type": "object", "properties": {"intent": {"type": "string"}}, "required": ["intent"]}

EXAMPLES: dict[str, dict[str, Any]] = {
    "ChatBody": {
        "question": {"messages": [{"role": "user", "content": "Where is my parcel?"}], "user": "ann", "max_tokens": 32},
        "stream": {
            "messages": [{"role": "user", "content": "Where is my parcel?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        "tools": {
            "messages": [
                {"role": "user", "content": "Is it warm in Ulm?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Ulm"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "23 degrees"},
            ],
            "tools": [_WEATHER],
        },
        "json": {
            "messages": [{"role": "user", "content": "I want a refund"}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "intent", "schema": _SCHEMA}},
        },
    },
    "CompletionBody": {"prompt": {"prompt": "The capital of France is", "max_tokens": 8}},
    "ConsentSent": {"granted": {"user": "ann", "purposes": ["training", "evaluation"], "state": "granted"}},
}
