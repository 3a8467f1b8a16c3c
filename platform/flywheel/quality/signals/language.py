"""Whether the answer is in the language of the question."""

from __future__ import annotations

from flywheel.quality.signals.context import Context, Measured
from flywheel.quality.signals.declare import Declared
from flywheel.quality.signals.reprompt import last_asked
from flywheel.text.answers import parse_object
from flywheel.text.language import language_of


def signal(measured: Measured, context: Context) -> float | None:  # noqa: ARG001  (one signature for all signals)
    """1: same language, 0: another one, None: either is too short to tell, or the answer is a JSON object."""
    target = measured.row.target
    if parse_object(target) is not None:
        return None  # keys and codes are in no language
    answered = language_of(target)
    asked = language_of(last_asked(measured)) if answered is not None else None
    return None if answered is None or asked is None else float(answered == asked)


LANGUAGE = Declared(
    name="language", version="1", cost="free", scope="row", group="form", scale="0 or 1, higher is better",
    inputs=("messages", "target"),
    measures="whether target and question are in one language (py3langid; only where it is sure of both)",
    gamed="says nothing about what is said; translations and quotations are rightly in another language",
    function=signal,
)  # fmt: skip
