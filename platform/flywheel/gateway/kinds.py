"""What each kind of feedback must say: its value, whether a text is needed, whether it can be about a whole session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from flywheel.records import FeedbackKind

DAY_MS: Final = 86_400_000
MAX_CHARS: Final = 10_000_000


@dataclass(frozen=True)
class Rule:
    """One kind's rule."""

    meaning: str
    """Of ``value``, for the message of a refusal; empty: the kind has none."""
    low: float = 0
    high: float = 0
    whole: bool = False
    required: bool = False
    text: bool = False
    """A text is required."""
    session: bool = False
    """It can be about a whole session."""
    implicit: bool = False
    """Seen, not said."""
    repeats: bool = False
    """It may happen again with the same content, so that only an idempotency key tells a retry."""

    def problem(self, value: float | None, text: str | None) -> str | None:
        """What is wrong about these; None: nothing."""
        if self.text and not (text or "").strip():
            return "needs a text"
        if value is None:
            return f"needs a value: {self.meaning}" if self.required else None
        if not self.meaning:
            return "takes no value"
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            return f"needs as value: {self.meaning}"
        return None


RULES: Final[dict[FeedbackKind, Rule]] = {
    "thumbs": Rule("-1 (down) or 1 (up)", -1, 1, whole=True, required=True, session=True),
    "rating": Rule("1 to 5", 1, 5, required=True, session=True),
    "click": Rule("the place of what was clicked, from 0", 0, 100_000, whole=True, implicit=True, repeats=True),
    "copy": Rule("characters copied", 0, MAX_CHARS, whole=True, implicit=True, repeats=True),
    "dwell": Rule("milliseconds, at most a day", 0, DAY_MS, required=True, session=True, implicit=True, repeats=True),
    "completion": Rule("the share that was read or used, 0 to 1", 0, 1, session=True, implicit=True),
    "abandon": Rule("milliseconds until then, at most a day", 0, DAY_MS, session=True, implicit=True),
    "reprompt": Rule("", implicit=True),
    "correction": Rule("", text=True),
    "comparison": Rule("1 (this answer is better), 0 (tie) or -1 (the other one)", -1, 1, whole=True, required=True),
    "comment": Rule("", text=True, session=True),
}
"""What ``POST /v1/feedback`` accepts."""

assert set(RULES) == set(get_args(FeedbackKind))


def problem_of(kind: FeedbackKind, value: float | None, text: str | None, *, session: bool) -> str | None:
    """What is wrong about a reaction; None: nothing."""
    rule = RULES[kind]
    if session and not rule.session:
        return f"{kind} is about one answer; give its inference_id and no session_id"
    if kind == "thumbs" and value == 0:
        return f"thumbs needs as value: {rule.meaning}"
    found = rule.problem(value, text)
    return f"{kind} {found}" if found else None
