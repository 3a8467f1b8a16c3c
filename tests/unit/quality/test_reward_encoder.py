"""Reward models on a very small BERT: both variants, files, and a constant answer that attacks one of them."""

import random
from pathlib import Path

import pytest
import torch

from flywheel.config import RewardModelConfig
from flywheel.errors import ModelError
from flywheel.quality.reward_choice import Choice, choice_loss, prompt_of
from flywheel.quality.reward_encoder import flat
from flywheel.quality.reward_fit import Scorer, fit, is_encoder
from flywheel.quality.reward_guard import sameness

TOPICS = ["boats", "drums", "engines", "forests", "harbours", "islands", "jackets", "kettles", "lanterns", "maps"]
FILL = [
    "it",
    "is",
    "made",
    "by",
    "people",
    "who",
    "work",
    "with",
    "wood",
    "and",
    "iron",
    "so",
    "that",
    "others",
    "may",
    "use",
    "this",
    "for",
    "many",
    "years",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "?", *sorted({*TOPICS, *FILL, "what", "are", "no", "go", "away"})]
    core = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                            sep_token="[SEP]").save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=64, max_position_embeddings=64)).save_pretrained(folder)  # fmt: skip
    return folder


def choices(count, seed=0):
    """People like long answers about the topic, and never "go away"."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        topic = rng.choice(TOPICS)
        good = f"{topic} " + " ".join(rng.sample(FILL, 9))
        bad = rng.choice(["no go away", " ".join(rng.sample(FILL, 3))])
        made.append(Choice([{"role": "user", "content": f"what are {topic} {rng.random()} ?"}], [good, bad]))
    return made


def wins(scorer, some):
    return sum(good > bad for good, bad in scorer(some)) / len(some)


def test_frozen_head_learns_repeats_and_is_safe_to_load(base, tmp_path):
    config = RewardModelConfig(max_length=48)
    assert is_encoder(base)
    for run in "ab":
        (tmp_path / run).mkdir()
        fit(choices(80), base=base, out=tmp_path / run, config=config, seed=3)
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert {Path(name).suffix for name in files} == {".json", ".safetensors"}
    assert wins(Scorer(tmp_path / "a", 48), choices(50, seed=1)) > 0.9


def test_cross_encoder_is_a_plain_classifier(base, tmp_path):
    from transformers import AutoModelForSequenceClassification

    config = RewardModelConfig(variant="full", max_length=48, epochs=8, learning_rate=3e-3)
    done = fit(choices(80), base=base, out=tmp_path, config=config, seed=3)
    assert done.last_loss < done.first_loss
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.num_labels == 1
    scorer = Scorer(tmp_path, 48)
    some = choices(30, seed=1)
    assert wins(scorer, some) > 0.9
    alone = [scorer([one])[0] for one in some[:5]]
    together = scorer(some)[:5]
    assert [pytest.approx(one, abs=1e-4) for one in alone] == together  # padding changes nothing


def test_the_best_constant_answer_beats_rewards_but_not_the_guard(base, tmp_path):
    fit(choices(80), base=base, out=tmp_path, config=RewardModelConfig(max_length=48), seed=3)
    scorer, some = Scorer(tmp_path, 48), choices(40, seed=5)
    prompts, real = [prompt_of(one) for one in some], [one.answers[0] for one in some]
    pool = [*real, " ".join([*TOPICS, *FILL, *FILL])]
    table = scorer([Choice(one.messages, pool) for one in some])
    constant = max(range(len(pool)), key=lambda place: sum(row[place] for row in table))
    beaten = sum(row[constant] > own for row, (own, _) in zip(table, scorer(some), strict=True)) / len(some)
    assert beaten > 0.5, "the attack has to work, else the guard guards nothing"
    assert sameness(prompts, [pool[constant]] * len(some), real).degenerate
    disguised = [f"{topic} {pool[constant]}" for topic in (prompt.split()[2] for prompt in prompts)]
    assert sameness(prompts, disguised, real).degenerate
    assert not sameness(prompts, real).degenerate


def test_losses_by_hand():
    scores = torch.tensor([1.0, -1.0])
    one = Choice([], ["a", "b"])
    sure = float(torch.nn.functional.softplus(torch.tensor(-2.0)))
    unsure = float(torch.nn.functional.softplus(torch.tensor(2.0)))
    assert float(choice_loss(scores, one, 0.0)) == pytest.approx(sure)
    tie = Choice([], ["a", "b"], share=0.5, weight=2.0)
    assert float(choice_loss(scores, tie, 0.0)) == pytest.approx(sure + unsure)
    up, down = Choice([], ["a"], outside="worse"), Choice([], ["a"], outside="better")
    assert float(choice_loss(scores[:1], up, 0.0)) == pytest.approx(float(torch.nn.functional.softplus(-scores[0])))
    assert float(choice_loss(scores[:1], down, 0.0)) == pytest.approx(float(torch.nn.functional.softplus(scores[0])))


def test_choices_become_pairs_that_share_their_weight():
    _, answers, pairs = flat([Choice([], ["a", "b", "c"]), Choice([], ["d"], outside="better", weight=3.0)])
    assert answers == ["a", "b", "c", "d"]
    rows = list(zip(pairs.chosen.tolist(), pairs.rejected.tolist(), pairs.weight.tolist(), strict=True))
    assert rows == [(0, 1, 0.5), (0, 2, 0.5), (-1, 3, 3.0)]
    assert flat([])[2].chosen.size == 0


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"quality\.reward\.base"):
        is_encoder(tmp_path)
