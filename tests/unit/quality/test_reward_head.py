"""The head over a frozen encoder, with an encoder that is a table."""

import numpy as np
import pytest

from flywheel.errors import ModelError
from flywheel.quality.reward_features import BUCKETS, STYLE, describe
from flywheel.quality.reward_head import Head, Pairs, fit_head, inner_folds

WORDS = ["kind", "helpful", "gentle", "rude", "useless", "harsh"]


def encode(texts):
    """Good words in one direction, bad ones in another."""
    good = [sum(word in text for word in WORDS[:3]) for text in texts]
    bad = [sum(word in text for word in WORDS[3:]) for text in texts]
    rows = np.column_stack([good, bad, np.ones(len(texts))]).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def made(n, seed=0, noise=0.1):
    """n pairs: a kind answer beats a rude one, whatever its length; a share of the votes is wrong."""
    rng = np.random.default_rng(seed)
    prompts, answers, chosen = [], [], []
    for i in range(n):
        prompts += [f"question number {i}"] * 2
        filler = ["so it is"] * int(rng.integers(1, 6)), ["and so on"] * int(rng.integers(1, 6))
        answers += [f"{rng.choice(WORDS[:3])} {' '.join(filler[0])}", f"{rng.choice(WORDS[3:])} {' '.join(filler[1])}"]
        chosen.append(2 * i + (rng.random() < noise))
    left = np.array(chosen)
    other = np.where(left % 2 == 0, left + 1, left - 1)
    groups = [f"g{i}" for i in range(n)]
    return describe(prompts, answers, encode), Pairs(left, other, np.ones(n), np.ones(n), groups), answers


def test_it_learns_what_the_encoder_knows_and_repeats_to_the_bit():
    answers, pairs, _ = made(200)
    head = fit_head(answers, pairs, seed=1)
    again = fit_head(answers, pairs, seed=1)
    assert all(np.array_equal(head.weights[name], again.weights[name]) for name in head.weights)
    fresh, unseen, _ = made(100, seed=9, noise=0)
    rewards = head.rewards(fresh)
    assert (rewards[unseen.chosen] > rewards[unseen.rejected]).mean() > 0.97
    assert "embedding" in head.blocks
    assert 0.3 < head.temperature < 3


def test_where_there_is_nothing_to_learn_little_is_used():
    answers, pairs, _ = made(200, noise=0.5)
    head = fit_head(answers, pairs, seed=1)
    rewards = head.rewards(answers)
    assert np.abs(rewards[pairs.chosen] - rewards[pairs.rejected]).mean() < 0.5


def test_ties_teach_that_answers_are_equal_and_the_outside_option_a_threshold():
    answers, pairs, _ = made(100, noise=0)
    tied = Pairs(pairs.chosen, pairs.rejected, np.full(100, 0.5), pairs.weight, pairs.groups)
    rewards = fit_head(answers, tied, seed=0).rewards(answers)
    assert np.abs(rewards[pairs.chosen] - rewards[pairs.rejected]).max() < 0.3
    outside = np.full(100, -1)
    thumbs = Pairs(np.r_[pairs.chosen, outside], np.r_[outside, pairs.rejected], np.ones(200), np.ones(200),
                   pairs.groups * 2)  # fmt: skip
    liked = fit_head(answers, thumbs, seed=0).rewards(answers)
    assert (liked[pairs.chosen] > 0).mean() > 0.95
    assert (liked[pairs.rejected] < 0).mean() > 0.95


def test_folder_has_no_words_and_no_pickle(tmp_path):
    answers, pairs, _texts = made(60)
    head = fit_head(answers, pairs, seed=1)
    head.save(tmp_path, {"base": "x"})
    loaded, about = Head.load(tmp_path)
    assert loaded.rewards(answers).tolist() == head.rewards(answers).tolist()
    assert about["base"] == "x"
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert not any(word.encode() in path.read_bytes() for path in tmp_path.iterdir() for word in WORDS)
    with pytest.raises(ModelError, match="Train the reward model again"):
        Head.load(tmp_path / "nothing")


def test_features():
    found = describe(["where is it"] * 2, ["where it is", "In a box!\nAnd 12?"], None)
    assert found.words.shape == (2, BUCKETS)
    assert found.style.shape == (2, len(STYLE))
    style = dict(zip(STYLE, found.style.T.tolist(), strict=True))
    assert style["repeats_prompt"] == [1, 0]
    assert style["complete"] == [0, 1]
    assert style["tfidf_to_prompt"][0] > 0.5
    assert describe([], [], encode).length.shape == (0, 1)


def test_a_prompt_is_on_one_side_of_an_inner_fold():
    groups = [str(i % 11) for i in range(50)]
    folds = inner_folds(groups, 0)
    assert all(len({folds[i] for i in range(50) if groups[i] == name}) == 1 for name in groups)
    assert len(set(folds.tolist())) == 4
