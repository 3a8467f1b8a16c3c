"""A simulated reviewer: labels answers from the truth, with a small error of their own.

The truth never enters the platform. It stays in a ``TruthBook`` of the simulation, keyed by inference id.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

from flywheel.demo.product import Ticket
from flywheel.demo.users import mistaken_answer
from flywheel.records import LabelKind

ANNOTATOR = "simulated-reviewer"
ERROR_RATE = 0.015


@dataclass
class TruthBook:
    """What each inference should have been answered, by inference id."""

    tickets: dict[str, Ticket] = field(default_factory=dict)

    def note(self, inference_id: str, ticket: Ticket) -> None:
        """Remember the truth of a request once its inference id is known."""
        self.tickets[inference_id] = ticket

    def right(self, inference_id: str, answer: str) -> bool:
        """Whether an answer is right; used by the simulation's own reports."""
        return _parse(answer) == json.loads(self.tickets[inference_id].answer)

    def __contains__(self, inference_id: object) -> bool:
        return inference_id in self.tickets


@dataclass(frozen=True)
class Judgement:
    """The reviewer's label: ``accept``, or ``correct`` with the right answer as they see it."""

    kind: LabelKind
    correction: str | None
    seconds: float


class Reviewer:
    """Labels inferences. The same seed and inference give the same label, in any order.

    Args:
        truth: the simulation's book of right answers.
        seed: of the errors.
        error_rate: share of labels that are wrong, 0 to 1.
    """

    def __init__(self, truth: TruthBook, *, seed: int = 0, error_rate: float = ERROR_RATE) -> None:
        self._truth = truth
        self._seed = seed
        self._error_rate = error_rate

    def judge(self, inference_id: str, answer: str) -> Judgement:
        """Accept the answer or correct it.

        Raises:
            KeyError: the simulation did not send this request.
        """
        ticket = self._truth.tickets[inference_id]
        rng = random.Random(f"reviewer/{self._seed}/{inference_id}")
        seconds = round(rng.lognormvariate(2.0, 0.5), 1)
        believed = mistaken_answer(rng, ticket) if rng.random() < self._error_rate else ticket.answer
        if _parse(answer) == json.loads(believed):
            return Judgement("accept", None, seconds)
        return Judgement("correct", believed, seconds)


def _parse(answer: str) -> object:
    try:
        return json.loads(answer)
    except ValueError:
        return None
