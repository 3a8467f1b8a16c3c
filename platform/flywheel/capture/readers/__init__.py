"""Readers: what people have -> interactions. One file a format, and ``FORMATS`` names them."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, get_args

from flywheel.capture.import_format import LINE, ImportedInteraction, RefusedError, as_object, validated
from flywheel.capture.readers import flywheel, langfuse, mlflow, openai
from flywheel.capture.readers.shapes import Read, lookup
from flywheel.errors import UsageError
from flywheel.records import Purpose

AUTO: Final = "auto"


class Format(NamedTuple):
    """How one format is recognised and read; both get a line's JSON object."""

    recognises: Callable[[Mapping[str, Any]], bool]
    read: Callable[[dict[str, Any]], Read]
    states_consent: bool = False
    """Whether its lines say themselves whose they are and what may be done with them."""


FORMATS: Final[Mapping[str, Format]] = {
    "flywheel": Format(flywheel.recognises, flywheel.read, states_consent=True),
    "mlflow": Format(mlflow.recognises, mlflow.read),
    "langfuse": Format(langfuse.recognises, langfuse.read),
    "openai": Format(openai.recognises, openai.read),
}
"""In the order in which they are tried on a line whose format was not named."""


class Reading(NamedTuple):
    """How to read files, and what to assume where their lines do not say it."""

    format: str = AUTO
    flow: str | None = None
    """Default: the configured flow."""
    user: str | None = None
    """Default: every session, or else every conversation, is a person of its own."""
    user_field: str | None = None
    """Where lines of other formats hold the user: ``metadata.customer``."""
    consent: list[Purpose] | None = None
    """Default: none."""
    taught: bool = False
    """The lines are what a model was taught with, and no traffic."""

    def checked(self) -> Reading:
        """Itself.

        Raises:
            UsageError: there is no such format.
        """
        if self.format not in {AUTO, *FORMATS}:
            near = difflib.get_close_matches(self.format, FORMATS, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {AUTO}, {', '.join(FORMATS)}"
            raise UsageError(f"there is no import format '{self.format}'; {hint}")
        return self


class InteractionReader:
    """Reads the lines of one file. With ``auto``, the first good line decides for the file."""

    def __init__(self, reading: Reading, flow: str) -> None:
        self._reading, self._flow = reading, reading.flow or flow
        self.format = None if reading.format == AUTO else reading.format
        self.ignored: Counter[str] = Counter()
        """What lines held that an interaction has no place for, and how often."""

    def read(self, line: bytes) -> ImportedInteraction:
        """One line as an interaction.

        Raises:
            RefusedError: it is none.
        """
        data = as_object(line)
        name = self.format or _recognised(data)
        fields, ignored = FORMATS[name].read(data)
        row = validated(ImportedInteraction, self._completed(fields, data, FORMATS[name].states_consent))
        self.format = name
        self.ignored.update(ignored)
        return row.model_copy(update={"feedback": []}) if row.taught else row

    def _completed(self, fields: dict[str, Any], data: dict[str, Any], states_consent: bool) -> dict[str, Any]:
        given = self._reading
        assumed: dict[str, Any] = {"flow": self._flow, "user": given.user, "consent": given.consent}
        if not states_consent:
            assumed["user"] = given.user or _anonymous(fields)
            assumed["consent"] = given.consent or []
        named = lookup(data, given.user_field) if given.user_field else None
        return {
            **{key: value for key, value in assumed.items() if value is not None},
            **fields,
            **({"user": named} if named else {}),
            **({"taught": True} if given.taught else {}),
        }


def read_purposes(text: str | None) -> list[Purpose] | None:
    """``"training,evaluation"`` -> purposes; ``none``: no purpose; nothing: not said.

    Raises:
        UsageError: an unknown purpose.
    """
    if text is None:
        return None
    names = {name.strip() for name in text.split(",")} - {"", "none"}
    if unknown := sorted(names - set(get_args(Purpose))):
        raise UsageError(f"there is no purpose '{unknown[0]}'; known: {', '.join(get_args(Purpose))}, none")
    return [purpose for purpose in get_args(Purpose) if purpose in names]


def _recognised(data: Mapping[str, Any]) -> str:
    for name, known in FORMATS.items():
        if known.recognises(data):
            return name
    raise RefusedError(LINE, f"in no format that is known ({', '.join(FORMATS)}); name its format if it is one of them")


def _anonymous(fields: Mapping[str, Any]) -> str:
    """As at the gateway: who is not named is a person of their own, for one session or one conversation."""
    said = json.dumps([fields.get("messages"), fields.get("response")], sort_keys=True, default=str)
    return f"anonymous:{fields.get('session_id') or hashlib.sha256(said.encode()).hexdigest()[:20]}"
