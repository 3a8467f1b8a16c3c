"""What a network must offer to measure rows, and how a chunk of rows goes through it with little padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from flywheel.errors import ModelError
from flywheel.quality.device import device
from flywheel.quality.signals.batches import padded_tokens, token_batches

if TYPE_CHECKING:
    import torch


class Item(TypedDict):
    """What travels to an actor of one row."""

    inference_id: str
    messages: list[dict[str, str]]
    target: str
    next_message: str | None


Encoded = dict[str, Any]
"""Token ids under ``input_ids``, and what the network wants to remember of the row."""


class Network(Protocol):
    """Any number of sequences an item, one output a sequence, one value an item."""

    def encode(self, items: Sequence[Item]) -> list[list[Encoded]]:
        """Sequences of each item."""
        ...

    def forward(self, batch: Sequence[Encoded]) -> Sequence[Any]:
        """One output a sequence of one padded batch."""
        ...

    def value(self, outputs: Sequence[Any]) -> float | None:
        """What an item's outputs come to."""
        ...


@dataclass
class Effort:
    """Tokens that went through a network, and those that were computed with the padding."""

    tokens: int = 0
    padded: int = 0


def run(
    network: Network, items: Sequence[Item], *, batch_tokens: int, effort: Effort | None = None
) -> list[float | None]:
    """Values of some items; sequences are sorted by length, a batch holds at most ``batch_tokens`` with padding."""
    encoded = network.encode(items)
    flat = [(owner, sequence) for owner, sequences in enumerate(encoded) for sequence in sequences]
    lengths = [len(sequence["input_ids"]) for _, sequence in flat]
    outputs: list[list[Any]] = [[None] * len(sequences) for sequences in encoded]
    place = [number for sequences in encoded for number in range(len(sequences))]
    for batch in token_batches(lengths, batch_tokens):
        found = network.forward([flat[index][1] for index in batch])
        for index, output in zip(batch, found, strict=True):
            outputs[flat[index][0]][place[index]] = output
        if effort is not None:
            effort.tokens += sum(lengths[index] for index in batch)
            effort.padded += padded_tokens(lengths, batch)
    return [network.value(own) if own else None for own in outputs]


def loaded(kind: Any, folder: str, **options: Any) -> tuple[Any, Any]:
    """A model in evaluation mode and its tokenizer, from a folder alone: nothing is downloaded, no pickle is read.

    Raises:
        ModelError: the folder holds no such model.
    """
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise ModelError(f"{folder} is not a folder; give the folder that save_pretrained() wrote")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} cannot be used here: {error}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval().to(device()), tokenizer


def pad(tokenizer: Any, batch: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Model inputs of one batch, padded on the right."""
    known = ("input_ids", "token_type_ids", "attention_mask")
    rows = [{name: row[name] for name in known if name in row} for row in batch]
    return dict(tokenizer.pad(rows, return_tensors="pt").to(device()))


def said(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    """Token ids of a conversation, by the model's chat template; without one, of the words alone."""
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    else:
        text = plain(messages) + "\n"
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def plain(messages: Sequence[dict[str, str]]) -> str:
    """What was said, without the system message."""
    return "\n".join(message["content"] for message in messages if message["role"] != "system")
