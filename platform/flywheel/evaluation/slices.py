"""What is read off one captured request: the question, the answer, and the groups its case is reported under. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flywheel.records import Inference, Message
from flywheel.text.language import language_of

LENGTHS: Final = ((80, "short"), (400, "medium"))
"""Characters of the question below which it counts as short or medium; what is longer is long."""


def question(messages: Sequence[Message]) -> str:
    """What was asked: the last message of the user; "" without one."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


def served(row: Inference) -> str | None:
    """The answer that was shown; None where there was none."""
    return row.choices[row.choice_served] if 0 <= row.choice_served < len(row.choices) else None


def length_of(messages: Sequence[Message]) -> str:
    """Length of the question: short, medium or long."""
    size = len(question(messages))
    return next((name for limit, name in LENGTHS if size < limit), "long")


def slices_of(row: Inference) -> dict[str, str]:
    """Language (where it can be told), length and tenant of a captured request."""
    asked = question(row.messages)
    language = language_of(asked)
    return {**({"language": language} if language else {}), "length": length_of(row.messages), "tenant": row.tenant}
