"""What reading one answer finds: a refusal, somebody's data, obedience to an order in data. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from flywheel.config import PrivacyConfig
from flywheel.records import Message
from flywheel.text.obedience import LOOKED_AT, obeys, recites
from flywheel.text.personal_data import detect
from flywheel.text.refusals import refuses

NO_NAMES: Final = "name"
"""Answers may name people; addresses and numbers that nobody mentioned are another matter."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer and what it answers."""

    messages: Sequence[Message]
    answer: str


def found_in(reading: Reading, privacy: PrivacyConfig) -> list[str]:
    """Kinds (``machine.tally.CONTENT``) that the answer shows."""
    answer = reading.answer[:LOOKED_AT]
    found = ["refusal"] if refuses(answer) else []
    if _personal(reading, answer, privacy):
        found.append("personal")
    system = [message.content for message in reading.messages if message.role == "system"]
    asked = [message.content for message in reading.messages if message.role != "system"]
    if obeys(answer, asked) or recites(answer, system, asked):
        found.append("obedience")
    return found


def _personal(reading: Reading, answer: str, privacy: PrivacyConfig) -> bool:
    """Personal data that the conversation does not hold already."""
    kinds = [kind for kind in privacy.detectors if kind != NO_NAMES]
    if not any(character.isdigit() or character == "@" for character in answer):
        return False
    spans = detect(answer, detectors=kinds, phone_regions=privacy.phone_regions)
    return any(all(span.value not in message.content for message in reading.messages) for span in spans)
