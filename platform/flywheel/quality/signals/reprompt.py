"""Whether the same was asked again, in other words: the next message compared with this one.

A question that is asked again was not answered. Compared by words here, at no cost; ``reprompt_semantic`` compares
by meaning.
"""

from __future__ import annotations

from rapidfuzz import fuzz

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.reactions import about_target
from flywheel.text.normalise import normalise


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """Similarity of the next message with this one in [0, 1]; 1 for a reported re-prompt without its text."""
    evidence = about_target(measured)
    if evidence is None:
        return None
    asked = last_asked(measured)
    if evidence.next_message is not None and asked:
        # Sorted words: "cancel my order" and "my order - cancel it" ask the same.
        return fuzz.token_sort_ratio(normalise(asked), normalise(evidence.next_message)) / 100
    return 1.0 if evidence.reprompts else None


def last_asked(measured: Measured) -> str:
    """The user's last message before the answer."""
    said = [message.content for message in measured.row.messages if message.role == "user"]
    return said[-1] if said else ""


REPROMPT = Declared(
    name="reprompt", version="1", cost="free", scope="row", group="did", scale="[0, 1], lower is better",
    inputs=("origin", "messages", "evidence.next_message", "evidence.reprompts"),
    measures="similarity of the words of the person's next message with this one's: was it asked again?",
    gamed="a new session hides the repetition; follow-ups reuse words (\"and for my other order?\")",
    function=signal,
)  # fmt: skip
