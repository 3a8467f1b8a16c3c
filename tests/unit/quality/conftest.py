"""A small synthetic flow: colours and sizes, messages in, JSON out; the truth is known."""

import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from flywheel.quality.rows import Candidate
from flywheel.records import Feedback, Inference, Message

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def inference() -> Callable[..., Inference]:
    def make(name: str, text: str = "hello there", answer: str = '{"a":"x"}', **over: object) -> Inference:
        values = {
            "inference_id": name, "flow": "f", "ts": START, "subject": "user", "model_version": "v0",
            "messages": [Message(role="user", content=text)], "choices": [answer], "finish_reason": "stop",
        }  # fmt: skip
        return Inference(**(values | over))

    return make


@pytest.fixture
def reaction() -> Callable[..., Feedback]:
    def make(name: str, kind: str, value: float | None = None, text: str | None = None, **over: object) -> Feedback:
        values = {
            "feedback_id": str(uuid.uuid4()), "inference_id": name, "flow": "f", "subject": "user",
            "ts": START + timedelta(minutes=1), "kind": kind, "value": value, "text": text,
        }  # fmt: skip
        return Feedback(**(values | over))

    return make


@pytest.fixture
def candidate() -> Callable[..., Candidate]:
    def make(name: str, text: str = "hello there", target: str = '{"a":"x"}', **over: object) -> Candidate:
        values = {
            "inference_id": name, "flow": "f", "subject": f"user-{name}", "rater": f"user-{name}", "ts": START,
            "messages": [Message(role="user", content=text)], "answer": target, "target": target, "origin": "liked",
        }  # fmt: skip
        return Candidate(**(values | over))

    return make


COLOURS = {"red": ["scarlet", "crimson", "ruby", "cherry"], "blue": ["azure", "navy", "cobalt", "sky"],
           "green": ["emerald", "lime", "olive", "mint"]}  # fmt: skip
NOISE = ["please", "could", "you", "send", "one", "of", "those", "nice", "things", "that", "we", "saw", "downtown"]


@pytest.fixture
def colours(candidate: Callable[..., Candidate]) -> Callable[..., tuple[list[Candidate], list[bool]]]:
    """``colours(n, wrong)``: n corrections of which a share is wrong, and whether each is right."""

    def make(count: int, wrong: float = 0.15, seed: int = 0) -> tuple[list[Candidate], list[bool]]:
        rng = random.Random(seed)
        rows, right = [], []
        for index in range(count):
            colour = rng.choice(sorted(COLOURS))
            words = [*rng.sample(NOISE, 9), rng.choice(COLOURS[colour]), str(rng.randrange(10_000))]
            rng.shuffle(words)
            good = rng.random() >= wrong
            said = colour if good else rng.choice([name for name in sorted(COLOURS) if name != colour])
            user = f"user-{rng.randrange(40)}"
            rows.append(candidate(f"{index:05d}", " ".join(words), f'{{"colour":"{said}"}}', origin="correction",
                                  answer='{"colour":"black"}', subject=user, rater=user))  # fmt: skip
            right.append(good)
        return rows, right

    return make
