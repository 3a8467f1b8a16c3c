"""Networks on tiny models made here: what they compute, against the plain way of computing it."""

import math

import pytest

from flywheel.config import FlywheelConfig
from flywheel.errors import ModelError
from flywheel.quality.signals.networks.base import Effort, run
from flywheel.quality.signals.networks.instruments import combine, configured

TEMPLATE = "{% for m in messages %}<u>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({t: i for i, t in enumerate(["<pad>", "<eos>", *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")


@pytest.fixture(scope="module")
def make(tmp_path_factory, tokenizer):
    """``make(kind, seed)``: the folder of a tiny model."""
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertModel,
        LlamaConfig,
        LlamaForCausalLM,
        LlamaForSequenceClassification,
    )

    small = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0}  # fmt: skip
    kinds = {
        "lm": lambda: LlamaForCausalLM(LlamaConfig(**small, eos_token_id=1)),
        "reward": lambda: LlamaForSequenceClassification(LlamaConfig(**small, eos_token_id=1, num_labels=1)),
        "toxic": lambda: BertForSequenceClassification(
            BertConfig(**small, id2label={0: "neutral", 1: "toxic"}, label2id={"neutral": 0, "toxic": 1})
        ),
        "encoder": lambda: BertModel(BertConfig(**small)),
    }

    def made(kind, seed=0):
        folder = tmp_path_factory.mktemp(f"{kind}-{seed}")
        torch.manual_seed(seed)
        kinds[kind]().save_pretrained(folder)
        tokenizer.chat_template = TEMPLATE if kind in ("lm", "reward") else None
        tokenizer.save_pretrained(folder)
        return folder

    torch.set_num_threads(1)
    return made


def items(count=9):
    return [
        {"inference_id": str(n), "messages": [{"role": "user", "content": "why " * (1 + n % 4)}],
         "target": "because of the rain" * (1 + n % 3), "next_message": None if n % 3 else f"why {n}"}
        for n in range(count)
    ]  # fmt: skip


def instrument(signal, live=None, **settings):
    return configured(FlywheelConfig(quality={"signals": settings}), live)[signal]


def test_perplexity_is_that_of_the_plain_model(make):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make("lm")
    values = instrument("perplexity", folder, perplexity={"enabled": True}).open()(items())
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for one, value in zip(items(), values, strict=True):
        prompt = tokenizer.apply_chat_template(one["messages"], tokenize=False, add_generation_prompt=True)
        head = tokenizer(prompt, return_tensors="pt")["input_ids"]
        ids = torch.cat([head, tokenizer(one["target"], return_tensors="pt")["input_ids"]], dim=1)
        labels = ids.clone()
        labels[:, : head.shape[1]] = -100
        assert value == pytest.approx(math.exp(float(model(input_ids=ids, labels=labels).loss)), rel=1e-4)


def test_perplexity_of_nothing_is_not_measured(make):
    empty = {**items(1)[0], "target": ""}
    assert instrument("perplexity", make("lm"), perplexity={"enabled": True}).open()([empty]) == [None]


def test_reward_does_not_depend_on_what_it_is_batched_with(make):
    loaded = instrument("reward", reward={"models": [str(make("reward"))]}).open()
    together = loaded(items())
    assert together == pytest.approx([loaded([one])[0] for one in items()], abs=1e-5)
    assert len(set(together)) > 5


def test_an_ensemble_is_the_mean_less_the_spread(make):
    folders = [str(make("reward", seed)) for seed in (1, 2)]
    alone = [instrument("reward", reward={"models": [one]}).open()(items(3)) for one in folders]
    both = instrument("reward", reward={"models": folders, "spread_penalty": 2.0}).open()(items(3))
    for one, other, value in zip(*alone, both, strict=True):
        assert value == pytest.approx((one + other) / 2 - 2 * abs(one - other) / 2, abs=1e-4)
    assert combine([1.0, None], 1.0) is None
    assert combine([3.0], 5.0) == 3.0


def test_toxicity_is_the_share_of_the_named_label(make):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = make("toxic")
    values = instrument("toxicity", toxicity={"model": str(folder), "label": "Toxic"}).open()(items(4))
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        plain = [model(**tokenizer(one["target"], return_tensors="pt")).logits.softmax(1)[0, 1] for one in items(4)]
    assert values == pytest.approx([float(one) for one in plain], abs=1e-5)
    with pytest.raises(ModelError, match="one of neutral, toxic"):
        instrument("toxicity", toxicity={"model": str(folder), "label": "rude"}).open()


def test_meaning_is_compared_only_where_something_followed(make):
    loaded = instrument("reprompt_semantic", similarity={"encoder": str(make("encoder"))}).open()
    same = {**items(1)[0], "next_message": "why "}
    values = loaded([*items(4), {**same, "next_message": same["messages"][0]["content"]}])
    assert [value is None for value in values] == [False, True, True, False, False]
    assert values[-1] == pytest.approx(1, abs=1e-5)
    assert values[0] < 1


def test_identity_is_content_and_settings_and_not_the_place(make, tmp_path):
    import shutil

    folder = make("reward", 5)
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    one, same = (instrument("reward", reward={"models": [str(place)]}) for place in (folder, copy))
    assert one.identity == same.identity
    longer = instrument("reward", reward={"models": [str(folder)], "max_length": 99})
    other = instrument("reward", reward={"models": [str(make("reward", 6))]})
    assert len({one.identity, longer.identity, other.identity}) == 3


def test_nothing_is_configured_by_default_and_a_missing_folder_is_named():
    assert configured(FlywheelConfig()) == {}
    with pytest.raises(ModelError, match="nowhere"):
        instrument("reward", reward={"models": ["nowhere"]})
    with pytest.raises(ModelError, match=r"perplexity\.model"):
        instrument("perplexity", perplexity={"enabled": True})


class Counting:
    """A network that adds up what it was given."""

    def __init__(self):
        self.batches = []

    def encode(self, some):
        return [[{"input_ids": [1] * int(one["target"])}] * 2 if one["target"] else [] for one in some]

    def forward(self, batch):
        self.batches.append([len(one["input_ids"]) for one in batch])
        return [len(one["input_ids"]) for one in batch]

    def value(self, outputs):
        return float(sum(outputs))


def test_outputs_find_their_way_back_and_padding_is_counted():
    effort, network = Effort(), Counting()
    some = [{"target": size} for size in ("5", "100", "", "7", "98", "5")]
    assert run(network, some, batch_tokens=400, effort=effort) == [10, 200, None, 14, 196, 10]
    assert effort.tokens == 2 * (5 + 100 + 7 + 98 + 5)
    assert effort.padded == sum(max(batch) * len(batch) for batch in network.batches)
    assert 1 - effort.tokens / effort.padded < 0.1
