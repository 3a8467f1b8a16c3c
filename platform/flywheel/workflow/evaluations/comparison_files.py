"""Files of anybody's rows or cases, read for comparing texts only: nothing of them is stored.

JSON lines or JSON, gzip or not. A line holds ``messages``, ``prompt`` (a text or messages), ``turns`` (the user's
texts) or ``text``, and may hold an answer. A row's id is its file and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import from_json

from flywheel.capture.import_format import RefusedError
from flywheel.capture.lines import DamagedError, read_lines
from flywheel.capture.readers.shapes import read_messages
from flywheel.capture.sources import find
from flywheel.config import FlywheelConfig
from flywheel.errors import InputError
from flywheel.evaluation.contamination import Row
from flywheel.records import Check, EvalCase, Message
from flywheel.text.overlap import conversation_texts

_ANSWERS: Final = ("response", "target", "answer", "completion", "output", "chosen", "reference")


class _Line(NamedTuple):
    file: str
    number: int
    value: dict[str, Any]
    messages: list[Message]

    @property
    def place(self) -> str:
        """Its id."""
        return f"{self.file}:{self.number}"


def rows_of_file(place: str, config: FlywheelConfig) -> Iterator[Row]:
    """The rows of a file or folder, as they come.

    Raises:
        UsageError: there is nothing to read. InputError: a line holds no text.
    """
    for line in _lines(place, config):
        yield Row(line.place, conversation_texts(line.messages, _answer(line.value)))


def cases_of_file(place: str, config: FlywheelConfig) -> Iterator[EvalCase]:
    """The cases of a file or folder; a case belongs to the suite that its line names, else to its file.

    Raises:
        UsageError: there is nothing to read. InputError: a line holds no text.
    """
    for line in _lines(place, config):
        suite = line.value.get("suite")
        yield EvalCase(
            case_id=line.place,
            flow=config.flow,
            suite=suite if isinstance(suite, str) else line.file,
            messages=line.messages,
            check=_check(line),
            origin="import",
        )


def _lines(place: str, config: FlywheelConfig) -> Iterator[_Line]:
    for source in find(place, config.lake.storage_options):
        name = PurePath(source.name).name
        try:
            for line in read_lines(source.name, source.chunks()):
                if line.problem:
                    raise InputError(source.name, line.number, "", line.problem)
                value, messages = _read(source.name, line.number, line.text)
                yield _Line(name, line.number, value, messages)
        except DamagedError as error:
            raise InputError(source.name, 0, "", str(error)) from error


def _read(name: str, number: int, text: bytes) -> tuple[dict[str, Any], list[Message]]:
    try:
        value = from_json(text)
    except ValueError as error:
        raise InputError(name, number, "", f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(name, number, "", "must be an object")
    try:
        return value, [Message.model_validate(message) for message in _messages(value)]
    except RefusedError as error:
        raise InputError(name, number, error.field, error.reason) from error
    except ValidationError as error:
        raise InputError(name, number, "messages", error.errors()[0]["msg"]) from error


def _messages(value: dict[str, Any]) -> list[dict[str, str]]:
    for field in ("messages", "prompt", "turns", "text"):
        given = value.get(field)
        if isinstance(given, str):
            return [{"role": "user", "content": given}]
        if field == "turns" and isinstance(given, list) and all(isinstance(turn, str) for turn in given):
            return [{"role": "user", "content": turn} for turn in given]
        if given is not None:
            return read_messages(given, field)
    raise RefusedError("prompt", "holds no messages, prompt, turns or text")


def _answer(value: dict[str, Any]) -> str | None:
    return next((value[field] for field in _ANSWERS if isinstance(value.get(field), str)), None)


def _check(line: _Line) -> Check:
    """The line's own check; else its answer, where it has one, is what is expected."""
    if "check" in line.value:
        try:
            return Check.model_validate(line.value["check"])
        except ValidationError as error:
            raise InputError(line.file, line.number, "check", error.errors()[0]["msg"]) from error
    return Check(kind="normalised", expected=_answer(line.value) or "")
