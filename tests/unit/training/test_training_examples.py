"""Chat template, loss mask, drops."""

import numpy as np
import pytest

from flywheel.errors import ModelError
from flywheel.records import Example, Message
from flywheel.training.examples import Dropped, encode, encoded_once, load_encoded, render, save_encoded


class LetterTokenizer:
    """One token a character; the template writes roles in brackets and ends answers with '$' and a newline."""

    eos_token = "$"

    def __init__(self, rewrite=False, end="$\n"):
        self.rewrite, self.end = rewrite, end

    def apply_chat_template(self, conversation, *, tokenize, add_generation_prompt):
        assert not tokenize
        answered = conversation[-1]["role"] == "assistant"
        head = "!" if self.rewrite and answered else ""
        text = head + "".join(
            f"[{m['role'][0]}]{m['content']}{self.end if m['role'] == 'assistant' else ''}" for m in conversation
        )
        return text + ("[a]" if add_generation_prompt else "")

    def __call__(self, text, *, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [[ord(letter) for letter in item] for item in text]}


def example(name="e", question="hi", target="yes", weight=1.0):
    return Example(
        example_id=name,
        flow="f",
        messages=[Message(role="user", content=question)],
        target=target,
        weight=weight,
        inference_ids=["i"],
        subject="s",
        origin="correction",
    )


def text(ids):
    return "".join(map(chr, ids))


def test_only_the_answer_and_its_end_are_learnt():
    (item,), dropped = encode([example()], LetterTokenizer(), max_length=50)
    assert text(item.ids) == "[u]hi[a]yes$"
    assert text(item.ids[item.weights > 0]) == "yes$"
    assert dropped == []


def test_prompt_weight_and_example_weight_multiply():
    (item,), _ = encode([example(weight=2.0)], LetterTokenizer(), max_length=50, prompt_loss_weight=0.25)
    assert item.weights[0] == 0  # nothing predicts the first token
    assert set(item.weights[1:8]) == {0.5}
    assert set(item.weights[8:]) == {2.0}
    assert item.total_weight == pytest.approx(7 * 0.5 + 4 * 2.0)


def test_every_drop_has_a_reason_and_nothing_is_lost():
    rows = [example("fits"), example("long", target="y" * 60), example("empty", target=" \n"), example("off", weight=0)]
    kept, dropped = encode(rows, LetterTokenizer(), max_length=12)
    assert [item.example_id for item in kept] == ["fits"]  # exactly 12 tokens
    assert set(dropped) == {
        Dropped("long", "too_long"),
        Dropped("empty", "empty_target"),
        Dropped("off", "zero_weight"),
    }


@pytest.mark.parametrize("tokenizer", [LetterTokenizer(), LetterTokenizer(rewrite=True), LetterTokenizer(end="")])
def test_the_answer_ends_once_whatever_the_template_does(tokenizer):
    assert render(example(), tokenizer) == ("[u]hi[a]", "yes$")


def test_a_tokenizer_without_end_of_text_is_refused():
    tokenizer = LetterTokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="eos_token"):
        encode([example()], tokenizer, max_length=50)


def test_a_run_that_is_resumed_sees_the_tokens_that_it_began_with(tmp_path):
    """A chat template may print the date, and a kill may come before midnight."""
    path = tmp_path / "examples.npz"
    before, after = (encode([example("a", text)], LetterTokenizer(), max_length=50)[0] for text in ("mon", "tuesday"))
    assert encoded_once(before, path) == before
    assert encoded_once(after, path)[0].ids.tolist() == before[0].ids.tolist()
    path.write_bytes(path.read_bytes()[:100])  # a power cut
    assert encoded_once(after, path) == after
    assert load_encoded(path)[0].ids.tolist() == after[0].ids.tolist()


def test_encoded_examples_survive_the_disk(tmp_path):
    encoded, _ = encode([example("a"), example("b", "longer question", "no")], LetterTokenizer(), max_length=50)
    save_encoded(encoded, tmp_path / "x" / "examples.npz")
    loaded = load_encoded(tmp_path / "x" / "examples.npz")
    assert [item.example_id for item in loaded] == ["a", "b"]
    for before, after in zip(encoded, loaded, strict=True):
        np.testing.assert_array_equal(before.ids, after.ids)
        np.testing.assert_array_equal(before.weights, after.weights)
