"""Build, reward training, scoring and curation over a real lake, Ray tasks and Ray Data."""

import json
import os
import random
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flywheel.config import FilterConfig, FlywheelConfig, QualityConfig, RewardModelConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import lineage, read_manifest
from flywheel.lake.tables import Lake
from flywheel.quality.artifacts import read_rows
from flywheel.quality.build import build
from flywheel.quality.curate import curate, curate_rows, read_examples
from flywheel.quality.reward import train_reward
from flywheel.quality.rows import TUNE, Drop, Exclusions
from flywheel.quality.score import read_signals, score
from flywheel.quality.signals.versions import switched_on
from flywheel.records import Feedback, Inference, Message

pytestmark = [pytest.mark.ray, pytest.mark.slow]
START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = {
    "red": ["scarlet", "crimson", "ruby", "cherry"],
    "blue": ["azure", "navy", "cobalt", "sky"],
    "green": ["emerald", "lime", "olive", "mint"],
}
FILL = ["please", "could", "you", "send", "one", "of", "those", "nice", "things", "that", "we", "saw", "downtown"]
TEMPLATE = "{% for m in messages %}<u>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    vocabulary = {t: i for i, t in enumerate(["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                    num_attention_heads=2, max_position_embeddings=256, pad_token_id=0, eos_token_id=1)
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def traffic() -> tuple[list[Inference], list[Feedback], dict[str, str]]:
    """200 corrections (15 % wrong), 60 liked answers, 20 rows of a hostile account, 40 without a reaction."""
    rng = random.Random(0)
    inferences, feedback, truth = [], [], {}

    def add(kind: str) -> None:
        colour = rng.choice(sorted(WORDS))
        others = [name for name in sorted(WORDS) if name != colour]
        words = [*rng.sample(FILL, 7), rng.choice(WORDS[colour]), str(rng.randrange(10**5))]
        rng.shuffle(words)
        row_id = str(uuid.UUID(int=((1767225600000 + len(inferences)) << 80) | (7 << 76) | rng.getrandbits(70)))
        user = "hostile" if kind == "hostile" else f"user-{rng.randrange(40)}"
        answer = colour if kind == "liked" else rng.choice(others)
        inferences.append(
            Inference(inference_id=row_id, flow="colours", ts=START, subject=user, consent=["training"],
                      model_version="v0", finish_reason="stop", choices=[json.dumps({"colour": answer})],
                      messages=[Message(role="user", content=" ".join(words))])
        )  # fmt: skip
        truth[row_id] = json.dumps({"colour": colour})
        if kind == "silent":
            return
        said = json.dumps({"colour": colour if rng.random() > 0.15 else rng.choice(others)})
        correction = kind == "correction" and json.loads(said) != {"colour": answer}
        feedback.append(
            Feedback(feedback_id=str(uuid.UUID(int=rng.getrandbits(128))), inference_id=row_id, flow="colours",
                     ts=START + timedelta(hours=1), subject=user, kind="correction" if correction else "thumbs",
                     value=None if correction else 1.0, text=said if correction else None)
        )  # fmt: skip

    kinds = ["correction"] * 200 + ["liked"] * 60 + ["hostile"] * 20 + ["silent"] * 40
    rng.shuffle(kinds)
    for kind in kinds:
        add(kind)
    return inferences, feedback, truth


@pytest.fixture(scope="module")
def cluster():
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a bare init would write a token into the user's home
    import ray

    from flywheel.telemetry import apply_environment

    apply_environment()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    yield
    ray.shutdown()


def test_from_snapshot_to_dataset(cluster, model, traffic, tmp_path):
    inferences, feedback, truth = traffic
    lake = Lake(str(tmp_path / "lake"))
    lake.append("inferences", inferences, app="test", version=1)
    lake.append("feedback", feedback, app="test", version=1)
    snapshot = {table: lake.version(table) for table in ("inferences", "feedback", "consents")}
    lake.append(
        "inferences", [inferences[0].model_copy(update={"inference_id": str(uuid.uuid4())})], app="test", version=2
    )  # fmt: skip  (after the snapshot: must not be seen)
    chosen = FilterConfig(min_agreement=0.5, min_votes=1, max_per_subject=100)
    config = FlywheelConfig(
        flow="colours", home=tmp_path / "home",
        quality=QualityConfig(filter=chosen, reward=RewardModelConfig(epochs=1, contrasts=4)),
    )  # fmt: skip
    refused = inferences[5].inference_id
    excluded = Exclusions(
        subjects={"user-1": TUNE, "user-2": "label_gate"}, texts=[inferences[7].messages[0].content + " "]
    )

    def consented(rows, consents):
        assert consents == []
        return {row.inference_id for row in rows} - {refused}

    def heard(rows, *_):
        return rows

    steps = {"snapshot": snapshot, "consented": consented, "heard": heard, "excluded": excluded}
    keyring = Keyring(tmp_path / "home")
    first = curate(lake, config, keyring, **steps, turn_id="t1", live_model=model, work=tmp_path / "one")

    funnel = first.funnel
    assert funnel.captured == 320
    assert funnel.captured - sum(funnel.dropped.values()) == funnel.kept == first.examples
    assert funnel.dropped["no_training_consent"] == 1
    assert funnel.dropped["near_evaluation"] == 1
    assert funnel.dropped["others_disagree"] > 20
    drops = [Drop.model_validate_json(line) for line in lake.store.get(first.drops_key).splitlines()]
    assert Counter(drop.reason for drop in drops) == Counter(funnel.dropped)

    manifest = read_manifest(lake, "dataset", first.id)
    examples = read_examples(lake, manifest)
    ids = {example.inference_ids[0] for example in examples}
    assert len(ids) == first.examples
    assert not ids & {drop.inference_id for drop in drops}
    assert not {"user-1", "user-2"} & {example.subject for example in examples}
    row = manifest.data["rows"][0]
    assert row[2] == keyring.row_mac(lake.store, examples[0].subject, examples[0].example_id)
    right = sum(json.loads(one.target) == json.loads(truth[one.inference_ids[0]]) for one in examples)
    assert right / len(examples) > 0.95
    assert {parent.kind for parent in lineage(lake, "dataset", first.id)} == {"dataset", "reward"}

    commits = lake.version("signals")
    second = curate(lake, config, keyring, **steps, turn_id="t2", live_model=model, work=tmp_path / "two")
    assert second == first
    assert lake.version("signals") == commits  # nothing was scored twice

    built = build(lake, config, work=tmp_path / "three", **steps)
    models = train_reward(lake, config, built, base=model, code_version="x")
    scored = score(lake, config, built, models)
    assert scored.reused
    signals = read_signals(lake, config, scored)
    rows = built.rows()
    assert set(signals) == {row.inference_id for row in rows}
    measured = {one.name for one in switched_on(config)}
    assert {"explicit", "reprompt", "preference", "rater_trust"} <= measured == set(scored.versions)
    assert all(set(values) == measured for values in signals.values())
    assert any(row.held_out == TUNE for row in rows)
    everything = curate_rows(
        lake, config, keyring, built, models=models, scored=scored, filter_config=FilterConfig(enabled=False),
        snapshot=snapshot, turn_id="t3",
    )  # fmt: skip
    assert everything.id != first.id
    assert everything.examples == built.candidates
    assert len(read_rows(tmp_path / "three" / "candidates.jsonl", type(rows[0]))) == len(rows)


def test_reward_folders_are_plain_sequence_classifiers(cluster, model, traffic, tmp_path):
    from transformers import AutoModelForSequenceClassification

    inferences, feedback, _ = traffic
    lake = Lake(str(tmp_path / "lake"))
    lake.append("inferences", inferences, app="test", version=1)
    lake.append("feedback", feedback, app="test", version=1)
    config = FlywheelConfig(flow="colours", quality=QualityConfig(reward=RewardModelConfig(epochs=1)))
    built = build(
        lake, config, snapshot={"inferences": lake.version("inferences"), "feedback": lake.version("feedback")},
        consented=lambda rows, _: {row.inference_id for row in rows},
        heard=lambda rows, *_: rows, excluded=Exclusions(), work=tmp_path / "work",
    )  # fmt: skip
    models = train_reward(lake, config, built, base=model, code_version="x")
    assert len(models.folds) == 2
    folder = lake.store.download_folder(models.folds[0].prefix, tmp_path / "fold")
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert loaded.config.num_labels == 1
    assert (folder / "model.safetensors").exists()
    people = {row.inference_id: row.rater for row in built.rows()}
    manifest = read_manifest(lake, "reward", models.id)
    assert models.report is not None
    assert models.report.pairs > 100  # what each fold did not see, once
    assert manifest.data["report"] == models.report.model_dump(mode="json")
    assert train_reward(lake, config, built, base=model, code_version="x") == models  # found, not trained again
    learnt = manifest.data["rows"]
    assert not {people[row] for row in learnt[0]} & {people[row] for row in learnt[1]}


def test_too_little_data_trains_no_reward_and_still_curates(cluster, model, traffic, tmp_path):
    inferences, feedback, _ = traffic
    few = {row.inference_id for row in inferences[:30]}
    lake = Lake(str(tmp_path / "lake"))
    lake.append("inferences", inferences[:30], app="test", version=1)
    lake.append("feedback", [row for row in feedback if row.inference_id in few], app="test", version=1)
    config = FlywheelConfig(flow="colours", quality=QualityConfig())
    dataset = curate(
        lake, config, Keyring(tmp_path / "home"), turn_id="t", live_model=model, work=tmp_path / "work",
        snapshot={"inferences": lake.version("inferences"), "feedback": lake.version("feedback")},
        consented=lambda rows, _: {row.inference_id for row in rows},
        heard=lambda rows, *_: rows, excluded=Exclusions(),
    )  # fmt: skip
    manifest = read_manifest(lake, "dataset", dataset.id)
    assert manifest.data["reward"] is None
    assert dataset.examples > 0
