"""What the fields of one request must fulfil together; what each must be alone is in ``requests``."""

from __future__ import annotations

from typing import Any

from flywheel.gateway.problems import ApiProblem, bad_request
from flywheel.gateway.protocol.freeform import check_free

CODE = "invalid_combination"


def check_together(body: dict[str, Any]) -> None:
    """Return when the fields fit each other. Costs next to nothing for a body without tools and formats.

    Raises:
        ApiProblem: 400, naming the field.
    """
    if body.get("stream_options") is not None and not body.get("stream"):
        raise _clash("'stream_options' needs 'stream': true", "stream_options")
    if body.get("top_logprobs") and not body.get("logprobs"):
        raise _clash("'top_logprobs' needs 'logprobs': true", "top_logprobs")
    if (body.get("best_of") or 1) > 1 and body.get("n") not in {None, 1}:
        raise _clash("'best_of' serves one of several answers: leave 'n' out, or set it to 1", "best_of")
    if body.get("response_format") is not None:
        check_free(body["response_format"], "response_format")
    if body.get("tools") is not None:
        check_free(body["tools"], "tools")
    if body.get("tool_choice") is not None:
        _check_choice(body["tool_choice"], body.get("tools") or [])


def check_conversation(messages: list[dict[str, Any]]) -> None:
    """Return when each answer of a tool belongs to a call before it: without it the conversation cannot be replayed.

    Raises:
        ApiProblem: 400, naming the message.
    """
    called: set[str] = set()
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "assistant":
            called.update(call["id"] for call in message.get("tool_calls") or ())
        elif role == "tool" and message["tool_call_id"] not in called:
            place = f"messages[{index}].tool_call_id"
            raise _clash(f"'{place}' is not the id of a tool call in an earlier assistant message", place)


def _check_choice(choice: Any, tools: list[dict[str, Any]]) -> None:
    if choice == "none":
        return
    if not tools:
        raise _clash("'tool_choice' needs 'tools'", "tool_choice")
    if isinstance(choice, dict) and choice["function"]["name"] not in {tool["function"]["name"] for tool in tools}:
        raise _clash("'tool_choice' names a function that is not among 'tools'", "tool_choice")


def _clash(message: str, param: str) -> ApiProblem:
    return bad_request(message, CODE, param=param)
