"""The served ranker scores as the reward model was trained to, whatever is batched with what."""

import asyncio
import json
import subprocess
import sys

import pytest

from flywheel.config import FlywheelConfig, RankerConfig, load
from flywheel.errors import ModelError
from flywheel.gateway.deploy import serve_config
from flywheel.inference.ranker_server import RankerServer, TextScorer
from flywheel.inference.rankers import app_name, check_ranker_folder

PROMPT = [{"role": "system", "content": "shop"}, {"role": "user", "content": "please bring the crimson one"}]
ANSWERS = ["red", "a much longer answer in many words", "", "blue", "ü\U0001f600"]


@pytest.fixture(scope="module")
def reward_folder(tmp_path_factory):
    """A folder as quality.reward_fit saves it: a decoder with a score head and a chat template."""
    from flywheel.quality.reward_fit import load as load_reward
    from flywheel.testing import make_tiny_model

    folder = tmp_path_factory.mktemp("models") / "helpful-1"
    model, tokenizer = load_reward(make_tiny_model(folder.parent / "base", hidden=32, seed=3))
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory):
    """A model of pairs without a chat template."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("cross")
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "red", "shoes", "hat"]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=32, num_labels=1, pad_token_id=0)  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_it_scores_as_the_reward_model_was_trained(reward_folder):
    from flywheel.quality.reward_fit import Choice, Scorer

    (expected,) = Scorer(reward_folder, max_length=256)([Choice(PROMPT, ANSWERS)])
    found = TextScorer(reward_folder, RankerConfig(model=str(reward_folder), max_length=256))(PROMPT, ANSWERS)
    assert found == pytest.approx(expected, abs=1e-4)
    assert max(expected) - min(expected) > 1e-2, "a model that tells answers apart"


def test_batches_change_nothing_and_long_texts_are_cut(reward_folder):
    whole = TextScorer(reward_folder, RankerConfig(model="x", max_length=64, batch_size=32))
    small = TextScorer(reward_folder, RankerConfig(model="x", max_length=64, batch_size=2))
    texts = [*ANSWERS, "word " * 400]
    assert small(PROMPT, texts) == pytest.approx(whole(PROMPT, texts), abs=1e-4)
    long = [{"role": "user", "content": "talk " * 500}]
    assert len(whole(long, texts)) == len(texts)


def test_a_cross_encoder_reads_pairs_and_items_without_a_context(cross_encoder):
    scorer = TextScorer(cross_encoder, RankerConfig(model="x", max_length=32))
    with_context, other, alone = (
        scorer(messages, ["red hat", "red shoes", "red " * 100])
        for messages in ([{"role": "user", "content": "shoes"}], [{"role": "user", "content": "hat"}], [])
    )
    assert len({round(score, 6) for score in with_context}) == 3
    assert with_context != pytest.approx(other)
    assert with_context != pytest.approx(alone)


def test_the_server_says_its_version_and_tells_errors(reward_folder):
    server = RankerServer("helpful-1", str(reward_folder), {"model": "x"})
    good = asyncio.run(server.score(PROMPT, ["red"]))
    assert good["version"] == asyncio.run(server.ping()) == "helpful-1"
    assert len(good["scores"]) == 1
    bad = asyncio.run(server.score([{"role": "user"}], [None]))  # type: ignore[list-item, dict-item]
    assert "error" in bad


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (None, "no model folder"),
        ({"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM, not a sequence classifier"),
        ({"architectures": ["BertForSequenceClassification"]}, "no \\*.safetensors"),
    ],
)
def test_a_folder_that_cannot_rank_is_refused_before_anything_starts(tmp_path, config, why):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=why):
        check_ranker_folder(tmp_path)


def test_the_configured_ranker_is_an_application_of_its_own():
    config = load(
        FlywheelConfig, None, {"gateway.ranker.model": "models/helpful-1", "gateway.best_of.ranker": "reward"}
    )
    app = serve_config("x.yaml", config)["applications"][-1]
    assert (app["name"], app["route_prefix"]) == (app_name("helpful-1"), None)
    assert app["import_path"] == "flywheel.gateway.apps:ranker"
    assert [one["name"] for one in serve_config("x.yaml", FlywheelConfig())["applications"]] == [
        "gateway", "capture", "controller",
    ]  # fmt: skip


def test_the_gateway_knows_the_ranker_without_importing_torch_or_quality():
    code = (
        "import sys; import flywheel.gateway.service, flywheel.gateway.rank, flywheel.inference.ranker_server\n"
        "print([m for m in ('torch', 'transformers', 'ray', 'flywheel.quality') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
