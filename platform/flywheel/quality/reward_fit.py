"""Fit and run one reward model: plain torch, one process, one thread, the same weights for the same input.

Bradley-Terry with several alternatives at once (Luce 1959): the chosen answer's probability among its
alternatives is the softmax of the rewards; with one alternative this is the Bradley-Terry model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flywheel.config import RewardModelConfig
from flywheel.errors import ModelError
from flywheel.quality.packing import Packed, answer_scores, encode_row, pack

if TYPE_CHECKING:
    import torch

WARMUP = 0.1


@dataclass(frozen=True)
class Choice:
    """One prompt and its answers, the chosen one first. Plain data: it travels to a Ray task."""

    messages: list[dict[str, str]]
    answers: list[str]


@dataclass(frozen=True)
class Fit:
    """What a training run of one fold looked like; ``accuracy`` is on its own training rows."""

    pairs: int
    steps: int
    first_loss: float
    last_loss: float
    accuracy: float


def fit(choices: Sequence[Choice], *, base: Path, out: Path, config: RewardModelConfig, seed: int) -> Fit:
    """Train on ``choices`` from the model folder ``base`` and save safetensors and tokenizer to ``out``.

    Raises:
        ModelError: the base has no chat template or is not a model that can classify sequences.
    """
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model, tokenizer = load(base)
    rows = _encode(tokenizer, choices, config.max_length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    batches = [batch for epoch in range(config.epochs) for batch in _batches(rows, config.batch_size, seed + epoch)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, len(batches)))
    model.train()
    losses: list[float] = []
    right = 0
    for batch in batches:
        scores = answer_scores(model, [rows[index] for index in batch], pad=_pad(tokenizer))
        loss = torch.stack([_loss(row, config.label_smoothing) for row in scores]).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if len(losses) > len(batches) - max(1, len(batches) // config.epochs):
            right += sum(int(row.argmax()) == 0 for row in scores)
    model.eval()
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    return Fit(len(rows), len(losses), losses[0], losses[-1], right / len(rows))


def load(folder: Path) -> tuple[Any, Any]:
    """The folder's model as a sequence classifier with one output, and its tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype="float32", use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder} cannot become a reward model: {error}. Name another quality.reward.base."
        ) from error
    if not tokenizer.chat_template:
        raise ModelError(f"{folder} has no chat template: add one to its tokenizer, or name another reward.base.")
    if not hasattr(model, "score"):
        raise ModelError(f"{folder}: {type(model).__name__} has no score head; name a decoder as quality.reward.base.")
    model.config.pad_token_id = _pad(tokenizer)
    return model, tokenizer


class Scorer:
    """A saved reward model in memory; call it with choices, get the rewards of their answers."""

    def __init__(self, folder: Path, max_length: int) -> None:
        """Load ``folder`` on one thread."""
        import torch

        torch.set_num_threads(1)
        self.model, self.tokenizer = load(folder)
        self.model.eval()
        self.max_length = max_length

    def __call__(self, choices: Sequence[Choice]) -> list[list[float]]:
        """Rewards, one list a choice in the order of its answers."""
        import torch

        rows = _encode(self.tokenizer, choices, self.max_length)
        with torch.inference_mode():
            return [scores.tolist() for scores in answer_scores(self.model, rows, pad=_pad(self.tokenizer))]


def _encode(tokenizer: Any, choices: Sequence[Choice], max_length: int) -> list[Packed]:
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ModelError("the reward model's tokenizer has no end-of-sequence token; set one in its config.")
    encoded = [encode_row(tokenizer, choice.messages, choice.answers) for choice in choices]
    return [pack(prompt, answers, eos=eos, max_length=max_length) for prompt, answers in encoded]


def _pad(tokenizer: Any) -> int:
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id


def _batches(rows: Sequence[Packed], size: int, seed: int) -> list[list[int]]:
    """Shuffled batches of similar lengths: drawn, sorted in stretches of eight batches, drawn again."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(rows), generator=generator).tolist()
    batches: list[list[int]] = []
    for start in range(0, len(order), size * 8):
        stretch = sorted(order[start : start + size * 8], key=lambda index: (len(rows[index].ids), index))
        batches += [stretch[place : place + size] for place in range(0, len(stretch), size)]
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def _loss(scores: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Cross-entropy of the chosen (first) answer, a share of its weight spread over all answers."""
    logs = scores.log_softmax(dim=0)
    return -(1 - smoothing) * logs[0] - smoothing * logs.mean()


def _rate(step: int, total: int) -> float:
    warm = max(1, int(total * WARMUP))
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
