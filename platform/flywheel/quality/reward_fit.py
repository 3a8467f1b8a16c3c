"""Fit and run one reward model: one process, on the GPU that Ray gave it or on one thread.

On a thread the same input gives the same weights; GPUs add up in whatever order they like.

What it becomes follows from the base: a decoder with a chat template gets a value head and is trained whole, an
encoder stays frozen under a head, or becomes a cross-encoder (``variant: full``); see ``reward_encoder``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.config import RewardModelConfig
from flywheel.errors import ModelError
from flywheel.quality.device import check_device, device
from flywheel.quality.packing import Packed, answer_scores, encode_row, pack
from flywheel.quality.reward_choice import Choice, Fit, batch_loss, batches, rate
from flywheel.quality.reward_encoder import EncoderScorer, fit_cross, fit_frozen, is_head, onto

__all__ = ["Choice", "Fit", "Scorer", "fit", "is_encoder", "load"]

ENCODERS = ("Bert", "Roberta", "Deberta", "Electra", "Albert", "MPNet", "XLM", "DistilBert", "Camembert", "Nomic")
"""How the architectures of encoders begin; what is none is taken for a decoder."""


def fit(choices: Sequence[Choice], *, base: Path, out: Path, config: RewardModelConfig, seed: int) -> Fit:
    """Train on ``choices`` from the model folder ``base`` and save safetensors and tokenizer to ``out``.

    Raises:
        ModelError: the base has no chat template or is not a model that can classify sequences, or a GPU is missing.
    """
    check_device(config)
    if is_encoder(base):
        train = fit_cross if config.variant == "full" else fit_frozen
        return train(choices, base=base, out=out, config=config, seed=seed)
    if config.variant == "head":
        raise ModelError(f"{base} is no encoder: set quality.reward.variant to 'auto' or 'full', or name an encoder.")
    return _fit_decoder(choices, base=base, out=out, config=config, seed=seed)


def is_encoder(folder: Path) -> bool:
    """Whether a model folder holds an encoder, by its configuration.

    Raises:
        ModelError: the folder holds no model.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{folder} cannot become a reward model: {error}. Name another quality.reward.base."
        ) from error
    return not config.get("is_decoder", False) and str((config.get("architectures") or [""])[0]).startswith(ENCODERS)


def _fit_decoder(choices: Sequence[Choice], *, base: Path, out: Path, config: RewardModelConfig, seed: int) -> Fit:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model, tokenizer = load(base)
    onto(model, config)
    rows = _encode(tokenizer, choices, config.max_length)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    sizes = [len(row.ids) for row in rows]
    steps = [batch for epoch in range(config.epochs) for batch in batches(sizes, config.batch_size, seed + epoch)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, len(steps)))
    model.train()
    losses: list[float] = []
    right = 0
    for batch in steps:
        scores = answer_scores(model, [rows[index] for index in batch], pad=_pad(tokenizer))
        loss = batch_loss(scores, [choices[index] for index in batch], config.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if len(losses) > len(steps) - max(1, len(steps) // config.epochs):
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
        """Load ``folder`` on the GPU of this task or actor, or on one thread."""
        import torch

        torch.set_num_threads(1)
        self.max_length = max_length
        self.encoder = EncoderScorer(folder, max_length) if is_head(folder) or is_encoder(folder) else None
        if self.encoder is None:
            self.model, self.tokenizer = load(folder)
            self.model.eval().to(device())

    def __call__(self, choices: Sequence[Choice]) -> list[list[float]]:
        """Rewards, one list a choice in the order of its answers."""
        import torch

        if self.encoder is not None:
            return self.encoder(choices)
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
