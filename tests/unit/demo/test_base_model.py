import re

import pytest

from flywheel.demo import base_model
from flywheel.demo.fillers import names_path
from flywheel.demo.product import Generator, pretraining_examples

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    texts = base_model.tokenizer_texts(0, count=300)
    return base_model.random_init(tmp_path_factory.mktemp("tiny"), texts=texts, seed=0)


def test_the_folder_holds_what_an_engine_needs(folder):
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors", "generation_config.json"} <= names
    assert (folder / "model.safetensors").stat().st_size <= 12_000_000


def test_the_same_seed_gives_the_same_files(folder, tmp_path):
    again = base_model.random_init(tmp_path / "again", texts=base_model.tokenizer_texts(0, count=300), seed=0)
    for name in ("model.safetensors", "tokenizer.json"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_every_text_survives_the_tokenizer(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [ticket.text for ticket in Generator(1).tickets(100)] + ["Übergröße 中文 \t😀"]
    for text in texts:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_chat_template_marks_roles_and_asks_for_an_answer(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "hello"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt == "<|user|>hello<|end|><|assistant|>"
    full = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": "hi"}], tokenize=False)
    assert full == prompt + "hi<|end|>"


def test_the_head_size_is_one_that_vllm_supports_on_cpu():
    assert base_model.HIDDEN % base_model.HEADS == 0
    assert base_model.HIDDEN // base_model.HEADS in (32, 64)


def test_build_hands_untrained_weights_and_old_examples_to_the_trainer(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model, "PRETRAINING_MESSAGES", 50)
    seen = {}

    def trainer(config, base, examples, out):
        seen.update(config=config, files={path.name for path in base.iterdir()}, examples=examples, out=out)

    out = base_model.build(tmp_path / "out", trainer=trainer, work=tmp_path / "work")
    assert out == seen["out"]
    assert seen["config"] is base_model.PRETRAINING
    assert "model.safetensors" in seen["files"]
    assert len(seen["examples"]) == 50


def test_every_second_message_is_learnt_with_surrogates():
    raw = pretraining_examples(200, 0)
    learnt = base_model.half_anonymised(raw)
    changed = [number for number, (before, after) in enumerate(zip(raw, learnt, strict=True)) if before != after]
    assert len(changed) > 30
    assert all(number % 2 for number in changed)
    assert all(before.target == after.target for before, after in zip(raw, learnt, strict=True))
    names = set(names_path().read_text().split())
    assert not any(names & set(re.findall(r"[A-Z][a-z]+", learnt[n].messages[-1].content)) for n in range(1, 200, 2))
