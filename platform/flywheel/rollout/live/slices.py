"""The groups that a request belongs to, by themselves looked at: "one intent only" must not drown in the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from flywheel.config import LiveQualityConfig
from flywheel.records import Message
from flywheel.text.language import language_of

LENGTHS: Final = ((80, "short"), (400, "medium"))
"""Characters of the question below which it counts as short or medium; what is longer is long."""
LONGEST_NAME: Final = 64


def groups(
    rules: LiveQualityConfig,
    tags: Mapping[str, str],
    *,
    messages: Sequence[Message] | None = None,
    tenant: str | None = None,
) -> list[str]:
    """Names of the groups, as ``dimension=value``; where the question is not known, those of its tags."""
    found: dict[str, str | None] = {"tenant": tenant} if "tenant" in rules.slices else {}
    if messages is not None:
        asked = next((message.content for message in reversed(messages) if message.role == "user"), "")
        if "length" in rules.slices:
            found["length"] = next((name for limit, name in LENGTHS if len(asked) < limit), "long")
        if "language" in rules.slices:
            found["language"] = language_of(asked)
    found |= {tag: tags.get(tag) for tag in rules.slice_tags}
    return [f"{name}={value[:LONGEST_NAME]}" for name, value in found.items() if value]
