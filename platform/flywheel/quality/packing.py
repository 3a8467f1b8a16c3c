"""One prompt and several answers in one sequence: the prompt is computed once, answers do not see each other.

Each answer attends to the prompt and to itself, at the positions it would have alone, so the score equals
that of the plain sequence prompt + answer (a test holds this). A quarter of the work with twelve answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flywheel.quality.device import mixed

if TYPE_CHECKING:
    import torch

PROMPT = 0
PADDING = -1


@dataclass(frozen=True)
class Packed:
    """Token ids, positions and segments (0: prompt, k: k-th answer), and each answer's last index."""

    ids: list[int]
    positions: list[int]
    segments: list[int]
    ends: list[int]


def pack(prompt: Sequence[int], answers: Sequence[Sequence[int]], *, eos: int, max_length: int) -> Packed:
    """Lay out one row. The prompt loses its beginning, then an answer its end, past ``max_length`` tokens."""
    cut = [[*answer[: max_length - 2], eos] for answer in answers]
    room = max(1, max_length - max(len(answer) for answer in cut))
    head = list(prompt[-room:])
    ids, positions, segments, ends = list(head), list(range(len(head))), [PROMPT] * len(head), []
    for number, answer in enumerate(cut, start=1):
        ids += answer
        positions += range(len(head), len(head) + len(answer))
        segments += [number] * len(answer)
        ends.append(len(ids) - 1)
    return Packed(ids, positions, segments, ends)


def collate(rows: Sequence[Packed], *, pad: int, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
    """Pad to the longest row: ids and positions (B, L), an additive float mask (B, 1, L, L)."""
    import torch

    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad, dtype=torch.long)
    positions = torch.zeros((len(rows), length), dtype=torch.long)
    segments = torch.full((len(rows), length), PADDING, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        positions[index, : len(row.ids)] = torch.tensor(row.positions)
        segments[index, : len(row.ids)] = torch.tensor(row.segments)
    query, key = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(length, length).tril().bool()
    # Padding attends to itself: a row of the mask without any entry would give NaN.
    seen = causal & ((key == query) | ((key == PROMPT) & (query != PADDING)))
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    tensors = {"input_ids": ids, "position_ids": positions, "attention_mask": mask[:, None]}
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def answer_scores(model: Any, rows: Sequence[Packed], *, pad: int) -> list[torch.Tensor]:
    """Rewards of every answer of every row, on the model's device; one float32 tensor (answers,) a row."""
    import torch

    inputs = collate(rows, pad=pad, device=model.device)
    with mixed(model.device.type):
        hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
    flat = [(index, end) for index, row in enumerate(rows) for end in row.ends]
    where = torch.tensor(flat, device=hidden.device)
    scores = model.score(hidden[where[:, 0], where[:, 1]].float())[:, 0]
    return list(torch.split(scores, [len(row.ends) for row in rows]))


def encode_row(tokenizer: Any, messages: Sequence[dict[str, str]], answers: Sequence[str]) -> tuple[list[int], Any]:
    """Token ids of the prompt (chat template, generation prompt added) and of each answer."""
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    return prompt, [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
