"""What a prompt asks, without what it asks it about: instructions, manuals and documents that many prompts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flywheel.records import Message

COMMON_SHARE, COMMON_LEAST = 0.05, 20
"""A line of more prompts than this share, and than so many, is no part of a question."""


def questions(prompts: Sequence[Sequence[Message]]) -> list[str]:
    """Of each prompt the last thing that the user said, and system messages, without lines that many prompts share.

    A prompt of such lines only is left as it is.
    """
    own = [_lines(messages) for messages in prompts]
    seen = Counter(line for lines in own for line in set(lines))
    most = max(COMMON_LEAST, COMMON_SHARE * len(prompts))
    return ["\n".join([line for line in lines if seen[line] <= most] or lines) for lines in own]


def _lines(messages: Sequence[Message]) -> list[str]:
    asked = next((one.content for one in reversed(messages) if one.role == "user"), "")
    said = [*(one.content for one in messages if one.role == "system"), asked]
    return [line for text in said for line in map(str.strip, text.splitlines()) if line]
