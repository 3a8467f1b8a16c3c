"""Reward models on an encoder (BERT and kin): a frozen one with a head, or a cross-encoder that is trained whole.

``head`` embeds prompt and answer apart, once, and fits ``reward_head`` on what it sees: minutes for thousands of pairs
without a GPU. ``full`` reads "prompt [SEP] answer" together and trains every weight. Either folder is complete in
itself and holds safetensors only; ``full`` is a plain Hugging Face sequence classifier with one output.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flywheel.config import RewardModelConfig
from flywheel.errors import ModelError
from flywheel.quality.device import TRAINING_BYTES, device, mixed
from flywheel.quality.reward_choice import Choice, Fit, batch_loss, batches, prompt_of, rate
from flywheel.quality.reward_features import describe
from flywheel.quality.reward_head import HEAD_CONFIG, Head, Pairs, fit_head

if TYPE_CHECKING:
    import torch

BATCH = 32


def is_head(folder: Path) -> bool:
    """Whether the folder is a head over a frozen encoder."""
    return (folder / HEAD_CONFIG).is_file()


class Embedder:
    """A frozen encoder: mean of the last layer over the tokens, unit length (Reimers and Gurevych 2019)."""

    def __init__(self, folder: Path, max_length: int) -> None:
        """Load ``folder`` on the GPU of this task or actor, or on one thread.

        Raises:
            ModelError: it is no encoder in safetensors.
        """
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(1)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            self.model: Any = AutoModel.from_pretrained(folder, dtype="float32", use_safetensors=True).eval()
            self.model.to(device())
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"{folder} cannot become a reward model: {error}. Name another quality.reward.base."
            ) from error
        self.max_length = max_length

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (n, width). Sorted by length, so that batches hold little padding."""
        import torch

        order = sorted(range(len(texts)), key=lambda index: (len(texts[index]), texts[index]))
        found = np.zeros((len(texts), int(self.model.config.hidden_size)), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                places = order[start : start + BATCH]
                batch = self.tokenizer(
                    [texts[place] for place in places], truncation=True, max_length=self.max_length, padding=True,
                    return_tensors="pt",
                ).to(self.model.device)  # fmt: skip
                hidden = self.model(**batch).last_hidden_state
                seen = batch["attention_mask"][..., None]
                mean = (hidden * seen).sum(1) / seen.sum(1).clamp(min=1)
                found[places] = torch.nn.functional.normalize(mean, dim=1).cpu().numpy()
        return found


def fit_frozen(choices: Sequence[Choice], *, base: Path, out: Path, config: RewardModelConfig, seed: int) -> Fit:
    """Embed every text once, fit the head, and save both to ``out``."""
    prompts, answers, pairs = flat(choices)
    seen = describe(prompts, answers, Embedder(base, config.max_length))
    head = fit_head(seen, pairs, seed=seed)
    for path in sorted(base.iterdir()):
        if path.is_file() and path.suffix in {".json", ".txt", ".model", ".safetensors"}:
            shutil.copyfile(path, out / path.name)
    head.save(out, {"max_length": config.max_length, "blocks": head.blocks})
    rewards = np.append(head.rewards(seen), 0.0)  # place -1: the outside option
    right = rewards[pairs.chosen] > rewards[pairs.rejected]
    losses = list(head.looked_at.values())
    return Fit(len(choices), len(losses), losses[0], min(losses), float(np.average(right, weights=pairs.weight)))


def flat(choices: Sequence[Choice]) -> tuple[list[str], list[str], Pairs]:
    """Choices as texts and pairs: the first answer against each other one, which share the choice's weight."""
    prompts: list[str] = []
    answers: list[str] = []
    rows: list[tuple[int, int, float, float, str]] = []
    for choice in choices:
        prompt, place = prompt_of(choice), len(answers)
        prompts += [prompt] * len(choice.answers)
        answers += choice.answers
        others = list(range(place + 1, len(answers)))
        if choice.outside == "worse":
            others.append(-1)
        chosen = -1 if choice.outside == "better" else place
        if choice.outside == "better":
            others = [place]
        rows += [(chosen, other, choice.share, choice.weight / len(others), prompt) for other in others]
    left, right, share, weight, groups = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 5
    pairs = Pairs(np.array(left, dtype=np.int64), np.array(right, dtype=np.int64), np.array(share, dtype=np.float64),
                  np.array(weight, dtype=np.float64), groups)  # fmt: skip
    return prompts, answers, pairs


def fit_cross(choices: Sequence[Choice], *, base: Path, out: Path, config: RewardModelConfig, seed: int) -> Fit:
    """Train every weight of the encoder as a cross-encoder and save a sequence classifier to ``out``."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model, tokenizer = load_cross(base)
    onto(model, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    sizes = [sum(map(len, choice.answers)) + len(prompt_of(choice)) for choice in choices]
    steps = [batch for epoch in range(config.epochs) for batch in batches(sizes, config.batch_size, seed + epoch)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, len(steps)))
    model.train()
    losses: list[float] = []
    right = 0
    for step in steps:
        some = [choices[index] for index in step]
        scores = cross_scores(model, tokenizer, some, config.max_length)
        loss = batch_loss(scores, some, config.label_smoothing)
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
    return Fit(len(choices), len(losses), losses[0], losses[-1], right / len(choices))


def onto(model: Any, config: RewardModelConfig) -> None:
    """Move a model that is to be trained to the GPU of this task, if it has one.

    Raises:
        ModelError: the weights and what training them takes do not fit.
    """
    import torch

    where = device()
    if where != "cpu":
        there = torch.cuda.mem_get_info()[1] * min(1.0, config.num_gpus)
        refuse_crowded(sum(one.numel() for one in model.parameters()), there)
    model.to(where)


def refuse_crowded(parameters: int, memory_bytes: float) -> None:
    """Refuse a model whose training does not fit into its share of a GPU; activations come on top.

    Raises:
        ModelError: says what is needed and what is there.
    """
    needed = parameters * TRAINING_BYTES
    if needed > memory_bytes:
        raise ModelError(
            f"training a reward model of {parameters / 1e9:.1f} billion parameters takes {needed / 1e9:.0f} GB of GPU "
            f"memory at least, and there are {memory_bytes / 1e9:.0f}. Name a smaller quality.reward.base."
        )


def load_cross(folder: Path) -> tuple[Any, Any]:
    """The folder's model as a sequence classifier with one output, and its tokenizer.

    Raises:
        ModelError: it is no encoder that can classify.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype="float32", use_safetensors=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder} cannot become a reward model: {error}. Name another quality.reward.base."
        ) from error
    return model, tokenizer


def cross_scores(model: Any, tokenizer: Any, choices: Sequence[Choice], max_length: int) -> list[torch.Tensor]:
    """Rewards of every answer, one tensor a choice. A long prompt loses its beginning, then an answer its end."""
    import torch

    rows = [_pair(tokenizer, prompt_of(choice), answer, max_length) for choice in choices for answer in choice.answers]
    batch = tokenizer.pad(rows, return_tensors="pt").to(model.device)
    with mixed(model.device.type):
        logits = model(**batch).logits[:, 0]
    logits = logits.float()
    return list(torch.split(logits, [len(choice.answers) for choice in choices]))


def _pair(tokenizer: Any, prompt: str, answer: str, max_length: int) -> dict[str, Any]:
    """Both texts in the tokenizer's own form; the prompt's end matters most, so its beginning goes first."""
    special = tokenizer.num_special_tokens_to_add(pair=True)
    said = tokenizer(answer, add_special_tokens=False)["input_ids"][: max(1, max_length - special - 1)]
    room = max(1, max_length - special - len(said))
    asked = tokenizer(prompt, add_special_tokens=False)["input_ids"][-room:]
    # Text again, so that the tokenizer sets its own markers and segment ids; cut once more, as text may grow.
    texts = tokenizer.decode(asked, skip_special_tokens=True), tokenizer.decode(said, skip_special_tokens=True)
    return dict(tokenizer(*texts, truncation=True, max_length=max_length))


class EncoderScorer:
    """A saved encoder reward model in memory; call it with choices, get the rewards of their answers."""

    def __init__(self, folder: Path, max_length: int) -> None:
        """Load ``folder``, a head or a cross-encoder, on the GPU of this task or actor, or on one thread."""
        import torch

        torch.set_num_threads(1)
        self.max_length = max_length
        self.head: Head | None = None
        if is_head(folder):
            self.head, about = Head.load(folder)
            self.embed = Embedder(folder, int(about["max_length"]))
        else:
            self.model, self.tokenizer = load_cross(folder)
            self.model.eval().to(device())

    def __call__(self, choices: Sequence[Choice]) -> list[list[float]]:
        """Rewards, one list a choice in the order of its answers."""
        import torch

        if self.head is None:
            with torch.inference_mode():
                scores = cross_scores(self.model, self.tokenizer, choices, self.max_length)
            return [row.tolist() for row in scores]
        prompts, answers, _ = flat(choices)
        rewards = iter(self.head.rewards(describe(prompts, answers, self.embed)).tolist())
        return [[next(rewards) for _ in choice.answers] for choice in choices]
