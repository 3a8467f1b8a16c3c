"""Comparisons and thumbs beside the candidates' folds: nobody's pair teaches the model that judges it."""

import pytest

from flywheel.config import RewardModelConfig
from flywheel.errors import ModelError
from flywheel.quality.folds import make_folds, place_beside
from flywheel.quality.reward import fold_work, refuse_large
from flywheel.quality.reward_data import Preference
from flywheel.quality.rows import prompt_text
from flywheel.records import Message


def preference(name, text, who, **over):
    values = {"inference_id": name, "raters": who, "messages": [Message(role="user", content=text)],
              "chosen": f"good {name}", "rejected": f"bad {name}", "kind": "comparison"}  # fmt: skip
    return Preference(**(values | over))


def test_a_base_that_no_cpu_should_train_is_refused_by_name(tmp_path):
    """By default reward models start from the live model, which may be of any size."""
    small = tmp_path / "small"
    small.mkdir()
    (small / "model.safetensors").write_bytes(b"0" * 1000)
    refuse_large(small)
    for part in range(2):
        with (small / f"model-{part}.safetensors").open("wb") as file:
            file.truncate(1_500_000_000)  # a hole: nothing is written
    with pytest.raises(ModelError, match=r"small has 3\.0 GB of weights.*quality\.reward\.base"):
        refuse_large(small)


def test_pairs_follow_the_people_and_texts_that_they_share(colours):
    rows, _ = colours(120)
    folds = make_folds(rows, 2)
    asked = [prompt_text(row.messages) for row in rows]
    first, second = folds.score.index(0), folds.score.index(1)
    other = next(i for i, row in enumerate(rows) if folds.score[i] == 0 and row.subject != rows[first].subject)
    people = [[rows[first].subject], ["new-1"], ["new-2"], [rows[other].subject, rows[second].subject], ["new-1"]]
    prompts = ["entirely another question", asked[second], "nobody else says this", "both sides know me", "and this"]
    placed = place_beside(rows, folds, people, [[Message(role="user", content=text)] for text in prompts])
    assert placed.score[0] == 0
    assert placed.score[1] == placed.score[4] == 1  # one by its text, the other by the person of that one
    assert placed.score[2] in (0, 1)
    assert placed.score[3] is None
    for fold, learnt in enumerate(placed.train):
        assert all(placed.score[index] != fold for index in learnt)
        assert 3 not in learnt
    assert place_beside(rows, folds, [], []).train == [[], []]


def test_a_fold_learns_pairs_of_others_and_is_judged_on_its_own(colours):
    rows, _ = colours(120)
    folds = make_folds(rows, 2)
    said = [preference(f"q{i}", f"question {'abcdefgh'[i] * 9} number {i * 7919}", [f"z{i}"]) for i in range(8)]
    said.append(preference("t", "some other question that only liked ones know", ["z9"], rejected=None, kind="thumbs",
                           other_id="u"))  # fmt: skip
    work = fold_work(rows, folds, said, RewardModelConfig(), seed=0)
    for fold in work:
        learnt = {choice.answers[0] for choice in fold.choices}
        judged = {one.choice.answers[0] for one in fold.unseen if "comparison" in one.kinds}
        assert judged
        assert not judged & learnt
        assert {one.kinds[0] for one in fold.unseen} >= {"correction", "comparison"}
    thumbs = [fold for fold in work if any(choice.outside == "worse" for choice in fold.choices)]
    assert len(thumbs) == 1
    assert {"t", "u"} <= set(thumbs[0].sources)
    without = fold_work(rows, folds, [], RewardModelConfig(), seed=0)
    assert [len(one.choices) for one in without] == [len(learnt) for learnt in folds.train]
