"""What an imported row must look like; the messages end up in front of whoever wrote the file."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError, model_validator
from pydantic_core import from_json

from flywheel.records import Check, FeedbackKind, Message, Purpose, Record, in_utc, utcnow

M = TypeVar("M", bound=BaseModel)
Text = Annotated[str, Field(min_length=1)]
FlowName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
LINE: Final = "(line)"
"""The field of a problem that concerns a line as a whole."""
_PLAIN: Final = re.compile(r"[\w-]{1,40}")
"""A key that may be repeated; others are somebody's text."""
_JSON_NAMES: Final = {
    list: "a list", str: "a text", int: "a number", float: "a number", bool: "a boolean", type(None): "null",
}  # fmt: skip
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)


class RefusedError(Exception):
    """One line cannot be imported: its field and the reason, neither of which repeats the line's text."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"field '{field}': {reason}")


def validated(model: type[M], data: Any) -> M:
    """``data`` as a row.

    Raises:
        RefusedError: names the first field that does not fit.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(part if _PLAIN.fullmatch(part) else "(key)" for part in map(str, first["loc"]))
        raise RefusedError(place or LINE, first["msg"]) from error


def as_object(text: bytes) -> dict[str, Any]:
    """One line's JSON object.

    Raises:
        RefusedError: it is none.
    """
    try:
        data = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise RefusedError(LINE, f"no JSON: {str(error).replace(' at line 1 column', ' at column')}") from error
    if not isinstance(data, dict):
        raise RefusedError(LINE, f"must be a JSON object, not {_JSON_NAMES[type(data)]}")
    return data


def _storable(moment: datetime) -> datetime:
    """A time as it was written, since a reaction's id is made of that; the tables must be able to hold it."""
    in_utc(moment)
    return moment


class ImportedReaction(Record):
    """One entry of ``feedback`` in an imported line."""

    kind: FeedbackKind
    value: float | None = Field(default=None, allow_inf_nan=False)
    text: str | None = None
    ts: Annotated[AwareDatetime, AfterValidator(_storable)] | None = Field(
        default=None, description="default: the line's"
    )
    user: str | None = Field(default=None, description="default: the line's")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "thumbs" and self.value not in {-1, 1}:
            raise ValueError("thumbs needs value -1 or 1")
        if self.kind == "rating" and not (self.value is not None and 1 <= self.value <= 5):
            raise ValueError("rating needs a value from 1 to 5")
        if self.kind in {"correction", "comment"} and not (self.text and self.text.strip()):
            raise ValueError(f"{self.kind} needs a text")
        return self

    @property
    def doubts(self) -> bool:
        """Whether it says that the answer is not right."""
        low = self.value is not None and self.value < (0 if self.kind == "thumbs" else 3)
        return self.kind == "correction" or (self.kind in {"thumbs", "rating"} and low)


class ImportedInteraction(Record):
    """One interaction, as a line of a ``flywheel`` file says it and every reader makes it."""

    flow: FlowName
    user: Text
    session_id: Text | None = None
    ts: AwareDatetime | None = Field(default=None, description="default: when this lake first imported such a line")
    messages: Annotated[list[Message], Field(min_length=1)]
    response: str
    model: Text = "imported"
    consent: list[Purpose]
    feedback: list[ImportedReaction] = Field(default_factory=list)
    taught: bool = Field(default=False, description="an answer that a model was taught, and no traffic")

    @model_validator(mode="after")
    def _plausible(self) -> Self:
        if self.messages[-1].role == "assistant":
            raise ValueError("the last message must not be the assistant's; the answer belongs into 'response'")
        if self.ts is not None and not _EARLIEST <= self.ts <= utcnow() + timedelta(days=1):
            raise ValueError("ts must be between the year 2000 and now")
        if self.taught and any(one.doubts for one in self.feedback):
            raise ValueError("what a model was taught must be right, and somebody corrected or disliked this answer")
        return self


class ImportedCase(Record):
    """One line of an evaluation cases file."""

    messages: Annotated[list[Message], Field(min_length=1)]
    check: Check
    suite: Text
    flow: FlowName | None = Field(default=None, description="default: the configured flow")
    slice: str | None = None

    @model_validator(mode="after")
    def _checkable(self) -> Self:
        if "@" in self.suite:
            raise ValueError("suite: names with '@' are those of frozen suites, which nothing is added to")
        if self.check.kind not in {"json", "contains"} and not isinstance(self.check.expected, str):
            raise ValueError(f"check.expected of a {self.check.kind} check must be a text")
        if self.check.kind == "regex":
            try:
                re.compile(str(self.check.expected))
            except re.error as error:
                raise ValueError(f"check.expected is no regular expression: {error}") from error
        return self
