"""Examples -> token ids with a loss weight for every token. Pure, given a tokenizer.

The prompt is tokenised alone, exactly as the engine will see it, and the answer (with its end-of-text
token) is appended: the model trains on the boundary it meets when it serves.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from flywheel.errors import ModelError
from flywheel.records import Example

DropReason = Literal["too_long", "empty_target", "zero_weight"]


class ChatTokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used here."""

    eos_token: Any

    def apply_chat_template(self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool) -> Any:
        """Text of a conversation."""

    def __call__(self, text: Any, *, add_special_tokens: bool) -> Any:
        """``{"input_ids": [[...], ...]}`` for a list of texts."""


@dataclass(frozen=True)
class Encoded:
    """One example as the model sees it."""

    example_id: str
    ids: NDArray[np.int32]
    """Token ids, shape ``[tokens]``: prompt, answer, end of text."""
    weights: NDArray[np.float32]
    """Loss weight of each token as a target, shape ``[tokens]``; the first is always 0."""

    @property
    def total_weight(self) -> float:
        """Sum of the loss weights."""
        return float(self.weights.sum(dtype=np.float64))


@dataclass(frozen=True)
class Dropped:
    """An example that was not trained on, and why."""

    example_id: str
    reason: DropReason


def encode(
    examples: Sequence[Example], tokenizer: ChatTokenizer, *, max_length: int, prompt_loss_weight: float = 0.0
) -> tuple[list[Encoded], list[Dropped]]:
    """Apply the chat template, tokenise, weigh. Every example ends up in exactly one of the two lists.

    Args:
        examples: order is kept.
        tokenizer: needs a chat template and an end-of-text token.
        max_length: tokens of prompt plus answer plus end of text; longer examples are dropped, never cut,
            because a cut answer teaches the model to stop half-way.
        prompt_loss_weight: loss weight of prompt tokens relative to answer tokens; 1 for pretraining.

    Raises:
        ModelError: the tokenizer has no end-of-text token.
    """
    if not tokenizer.eos_token:
        raise ModelError("the tokenizer has no eos_token, so the model could never learn to stop; set one and save it")
    dropped = [Dropped(example.example_id, reason) for example in examples if (reason := _refuse(example))]
    usable = [example for example in examples if _refuse(example) is None]
    texts = [render(example, tokenizer) for example in usable]
    prompts = _tokenise([prompt for prompt, _ in texts], tokenizer)
    answers = _tokenise([answer for _, answer in texts], tokenizer)
    encoded: list[Encoded] = []
    for example, prompt, answer in zip(usable, prompts, answers, strict=True):
        if len(prompt) + len(answer) > max_length:
            dropped.append(Dropped(example.example_id, "too_long"))
            continue
        ids = np.array([*prompt, *answer], dtype=np.int32)
        weights = np.full(len(ids), example.weight, dtype=np.float32)
        weights[: len(prompt)] *= prompt_loss_weight
        weights[0] = 0.0
        encoded.append(Encoded(example.example_id, ids, weights))
    return encoded, dropped


def render(example: Example, tokenizer: ChatTokenizer) -> tuple[str, str]:
    """Text of the prompt and of the answer with its end-of-text token.

    The answer is what the chat template writes after the prompt, up to the end-of-text token. Templates
    that rewrite earlier turns once an answer is there (reasoning models) get the bare target instead.
    """
    messages = [{"role": message.role, "content": message.content} for message in example.messages]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    answered = [*messages, {"role": "assistant", "content": example.target}]
    full = tokenizer.apply_chat_template(answered, tokenize=False, add_generation_prompt=False)
    answer = full[len(prompt) :] if full.startswith(prompt) else example.target
    body, _, _ = answer.rpartition(tokenizer.eos_token) if tokenizer.eos_token in answer else (answer, "", "")
    return prompt, body + tokenizer.eos_token


def save_encoded(encoded: Sequence[Encoded], path: Path) -> None:
    """Write examples as one ``.npz`` of flat arrays (no pickles)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp.npz")
    np.savez(
        temporary,
        example_ids=np.array([item.example_id for item in encoded], dtype=np.str_),
        ends=np.cumsum([len(item.ids) for item in encoded], dtype=np.int64),
        ids=np.concatenate([item.ids for item in encoded]),
        weights=np.concatenate([item.weights for item in encoded]),
    )
    temporary.replace(path)


def encoded_once(encoded: Sequence[Encoded], path: Path) -> list[Encoded]:
    """What ``path`` holds; ``encoded`` is written there where it holds nothing whole.

    A run that is resumed must see what it began with: chat templates may print the date.
    """
    try:
        return load_encoded(path)
    except (FileNotFoundError, ValueError, EOFError, zipfile.BadZipFile):
        save_encoded(encoded, path)
    return list(encoded)


def load_encoded(path: Path) -> list[Encoded]:
    """Read what ``save_encoded`` wrote."""
    with np.load(path, allow_pickle=False) as data:
        ends = data["ends"][:-1]
        parts = zip(data["example_ids"], np.split(data["ids"], ends), np.split(data["weights"], ends), strict=True)
        return [Encoded(str(example_id), ids, weights) for example_id, ids, weights in parts]


def _refuse(example: Example) -> DropReason | None:
    if not example.target.strip():
        return "empty_target"
    return None if example.weight > 0 else "zero_weight"


def _tokenise(texts: list[str], tokenizer: ChatTokenizer) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
