"""How answers are drawn in an evaluation: what goes to the engine, and what makes two runs the same run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.records import Message


@dataclass(frozen=True, order=True)
class Sampling:
    """Parameters of one evaluation. At temperature 0 nothing is drawn, so that no seed tells two of them apart.

    ``max_tokens`` is the longest answer in tokens; ``system``, if given, stands in place of each case's own.
    """

    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    system: str = ""

    def __post_init__(self) -> None:
        if self.temperature == 0:
            object.__setattr__(self, "seed", 0)

    def arguments(self) -> dict[str, Any]:
        """For ``Generate``; a seed only where something is drawn."""
        given = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        return {**given, "seed": self.seed} if self.temperature else given

    def identity(self) -> dict[str, Any]:
        """All that shapes the answers, for the id of a run."""
        return {**self.arguments(), **({"system": self.system} if self.system else {})}

    def asked(self, messages: Sequence[Message]) -> list[Message]:
        """What is sent for a case with these messages."""
        if not self.system:
            return list(messages)
        rest = [message for message in messages if message.role != "system"]
        return [Message(role="system", content=self.system), *rest]

    def __str__(self) -> str:
        """What differs from plain greedy answers, short: ``T 0.7 seed 2``; empty for those."""
        drawn = [f"T {self.temperature:g}", f"seed {self.seed}"] if self.temperature else []
        system = [f"system '{_short(self.system)}'"] if self.system else []
        return " ".join([*drawn, *system])


def _short(text: str, width: int = 24) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
