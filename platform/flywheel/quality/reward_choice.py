"""One prompt and its answers, as every reward model learns from them: the choice, its loss, the order of batches.

Bradley-Terry with several alternatives at once (Luce 1959): the chosen answer's probability among its alternatives is
the softmax of the rewards; with one alternative this is the Bradley-Terry model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

WARMUP = 0.1


@dataclass(frozen=True)
class Choice:
    """One prompt and its answers, the chosen one first. Plain data: it travels to a Ray task."""

    messages: list[dict[str, str]]
    answers: list[str]
    share: float = 1.0
    """Votes for the first answer; the rest went to the others."""
    weight: float = 1.0
    outside: Literal["worse", "better"] | None = None
    """A thumb: the answers are compared with an option of reward 0, and that one was worse, or better."""


@dataclass(frozen=True)
class Fit:
    """What a training run of one fold looked like; ``accuracy`` is on its own training rows."""

    pairs: int
    steps: int
    first_loss: float
    last_loss: float
    accuracy: float


def prompt_of(choice: Choice) -> str:
    """What was asked, all turns; system messages are the same for everyone and left out."""
    return "\n".join(message["content"] for message in choice.messages if message["role"] != "system")


def choice_loss(scores: torch.Tensor, choice: Choice, smoothing: float) -> torch.Tensor:
    """Cross-entropy of what was chosen, a share of its weight spread over all alternatives."""
    import torch

    if choice.outside is not None:
        scores = torch.cat([scores, scores.new_zeros(1)])
        if choice.outside == "better":
            scores = scores.flip(0)
    logs = scores.log_softmax(dim=0)
    wanted = choice.share * logs[0]
    if choice.share < 1:
        wanted = wanted + (1 - choice.share) * logs[1:].mean()
    return choice.weight * (-(1 - smoothing) * wanted - smoothing * logs.mean())


def batch_loss(scores: Sequence[torch.Tensor], choices: Sequence[Choice], smoothing: float) -> torch.Tensor:
    """Mean over choices."""
    import torch

    return torch.stack(
        [choice_loss(row, choice, smoothing) for row, choice in zip(scores, choices, strict=True)]
    ).mean()


def batches(sizes: Sequence[int], size: int, seed: int) -> list[list[int]]:
    """Shuffled batches of similar lengths: drawn, sorted in stretches of eight batches, drawn again."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    order: list[int] = torch.randperm(len(sizes), generator=generator).tolist()
    made: list[list[int]] = []
    for start in range(0, len(order), size * 8):
        stretch = sorted(order[start : start + size * 8], key=lambda index: (sizes[index], index))
        made += [stretch[place : place + size] for place in range(0, len(stretch), size)]
    drawn: Any = torch.randperm(len(made), generator=generator).tolist()
    return [made[index] for index in drawn]


def rate(step: int, total: int) -> float:
    """Learning rate as a share of its peak: a linear start, then a cosine down to a twentieth."""
    warm = max(1, int(total * WARMUP))
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
