"""A lake on a folder, scripted judges, and pairs to put to them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from flywheel.inference.generate import Completion
from flywheel.judging.judge import LanguageJudge, Pair
from flywheel.lake.tables import Lake
from flywheel.records import Message
from flywheel.testing import quoted_answers


class Scripted:
    """An ``Ask`` whose replies a function of the quoted answers makes; ``None`` is a failure, an exception text too."""

    def __init__(self, reply: Callable[[list[str]], str | None]) -> None:
        self.reply, self.asked, self.reported = reply, 0, list[str]()

    def __call__(self, asked, schema, on_progress=None) -> list[Completion]:
        self.asked += len(asked)
        replies = [self.reply(quoted_answers({"messages": [m.model_dump() for m in prompt]})) for prompt in asked]
        return [
            Completion("", "error", None, None, None, error="connection lost") if text is None
            else Completion("", "error", None, None, None, error=text) if text.startswith("refused: ")
            else Completion(text, "stop", None, None, None)
            for text in replies
        ]  # fmt: skip


def choose(answers: Sequence[str]) -> str:
    """Prefers what says "good"."""
    first, second = ("good" in text for text in answers)
    return '{"better": "tie"}' if first == second else f'{{"better": "{"A" if first else "B"}"}}'


def judge(reply=choose, version="judge-1", **more) -> LanguageJudge:
    return LanguageJudge(version, Scripted(reply), "right", **more)


def pair(number: int = 0, left="good", right="bad", **more) -> Pair:
    values = {
        "item_id": f"item-{number}", "messages": [Message(role="user", content=f"question {number}")], "left": left,
        "right": right, "left_version": "v2", "right_version": "v1", "subject": f"s{number}",
    }  # fmt: skip
    return Pair(**{**values, **more})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def make() -> dict[str, Callable]:
    return {"judge": judge, "pair": pair}
