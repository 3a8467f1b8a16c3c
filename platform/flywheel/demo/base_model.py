"""The ``tiny`` base model: a Llama of 0.77 million parameters, made on the spot from nothing.

``random_init`` writes an untrained model folder: byte-level BPE, chat template, random weights.
``build`` then trains it on the old intents and products with whatever trainer it is given, which in the
product is ``training.finetune``: the very path that later turns use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from flywheel.capture.anonymise import Anonymiser
from flywheel.config import PrivacyConfig, TrainingConfig
from flywheel.demo.fillers import names_path
from flywheel.demo.product import Generator, pretraining_examples
from flywheel.records import Example

Trainer = Callable[[TrainingConfig, Path, Sequence[Example], Path], object]
"""Called as ``trainer(config, base_folder, examples, out_folder)``; must leave a model folder at ``out``."""

TINY = "tiny"
VOCABULARY_SIZE = 1_024
HIDDEN = 128
LAYERS = 3
HEADS = 4
"""Head size 32: vLLM's attention on CPU takes 32 and 64, not 16 or 48."""
FEED_FORWARD = 384
CONTEXT = 512
INIT_RANGE = 0.06
"""Wider than Llama's 0.02, which is meant for wide layers: a narrow model starts to learn sooner."""
PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
PRETRAINING_MESSAGES = 14_000
RECIPE = 2
"""Raise it when ``build`` changes, so that no home goes on with the model of an earlier way."""
TEACHING_MESSAGES = 800
"""Old messages that a general model (``--model smollm2``) learns the product from."""

PRETRAINING = TrainingConfig(
    epochs=1,
    micro_batch_size=8,
    learning_rate=3e-3,
    warmup_ratio=0.05,
    weight_decay=0.01,
    max_length=192,
    checkpoint_every=1_000,
)
"""How the base is trained. Measured: see ``DESIGN.md``."""

TURN = TrainingConfig(
    epochs=6,
    micro_batch_size=16,
    learning_rate=1e-3,
    warmup_ratio=0.1,
    weight_decay=0.01,
    max_length=192,
)
"""How a turn of the demo fine-tunes."""


def random_init(folder: Path, *, texts: Iterable[str], seed: int = 0) -> Path:
    """Write an untrained model folder: safetensors, tokenizer, chat template.

    Args:
        folder: made if absent; files in it are overwritten.
        texts: what the tokenizer's merges are learnt from; for every text it can encode, see byte level.
        seed: of the weights; the same seed and texts give the same files.

    Returns:
        ``folder``.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(texts)
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=HIDDEN,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HIDDEN // HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=INIT_RANGE,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id, do_sample=False
    )
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def build(out: Path, *, trainer: Trainer, work: Path, seed: int = 0, config: TrainingConfig = PRETRAINING) -> Path:
    """Make the base model of the demo: random weights, then old intents and products only.

    Args:
        out: folder of the finished model.
        trainer: see ``Trainer``.
        work: scratch folder; holds the untrained model afterwards.
        seed: of messages and weights.
        config: how it is trained.

    Returns:
        ``out``.
    """
    examples = half_anonymised(pretraining_examples(PRETRAINING_MESSAGES, seed))
    start = random_init(work / "untrained", texts=tokenizer_texts(seed), seed=seed)
    trainer(config, start, examples, out)
    return out


def half_anonymised(examples: Sequence[Example]) -> list[Example]:
    """Every second message with surrogates, as a product with some history has them.

    So small a model otherwise reads less well what it has never seen: surrogate names and account numbers.
    """
    anonymiser = Anonymiser(b"demo base model", PrivacyConfig(names_file=names_path()))

    def replaced(example: Example) -> Example:
        messages = [
            message.model_copy(update={"content": anonymiser.text(message.content, example.example_id)})
            for message in example.messages
        ]
        return example.model_copy(update={"messages": messages})

    return [replaced(example) if number % 2 else example for number, example in enumerate(examples)]


def tokenizer_texts(seed: int, count: int = 4_000) -> list[str]:
    """Old messages and answers that the tokenizer's merges are learnt from."""
    generator = Generator(seed, templates="training", new_share=0.0)
    return [text for ticket in generator.tickets(count) for text in (ticket.text, ticket.answer)]


def _tokenizer(texts: Iterable[str]) -> Any:  # a PreTrainedTokenizerFast; transformers stays a lazy import
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, END, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=END, model_max_length=CONTEXT, chat_template=CHAT_TEMPLATE
    )
