import random

from flywheel.quality.folds import make_folds
from flywheel.quality.rows import TUNE, prompt_text
from flywheel.text.minhash import jaccard


def check(rows, folds):
    for fold, train in enumerate(folds.train):
        held = [row for row, own in zip(rows, folds.score, strict=True) if own == fold]
        people = {person for row in held for person in (row.subject, row.rater)}
        for index in train:
            assert folds.score[index] != fold
            assert rows[index].rater not in people
            assert all(jaccard(prompt_text(rows[index].messages), prompt_text(row.messages)) < 0.8 for row in held)


def test_no_person_and_no_near_duplicate_on_both_sides(colours):
    rows, _ = colours(120)
    folds = make_folds(rows, 2)
    check(rows, folds)
    assert min(map(len, folds.train)) >= 40


def test_repetitive_traffic_falls_back_to_raters_and_stays_clean(candidate):
    text = "the delivery of my parcel with the number {} did not arrive at my home address"
    rows = [candidate(f"{i:03d}", text.format(i)) for i in range(20)]
    rows += [candidate(f"x{i}", f"{i} entirely different words number {i * 7919} {'abcdefghij'[i]}") for i in range(8)]
    folds = make_folds(rows, 2)
    assert set(folds.score) == {0, 1}
    check(rows, folds)


def test_same_content_same_folds(colours):
    rows, _ = colours(60)
    assert make_folds(rows, 3) == make_folds(rows, 3)


def test_tuning_rows_are_scored_and_never_learnt_from(candidate):
    rows = [candidate(f"{i}", f"text number {i} {'abcdefghijkl'[i] * 9}", held_out=TUNE if i < 4 else None)
            for i in range(12)]  # fmt: skip
    folds = make_folds(rows, 2)
    assert len(folds.score) == 12
    assert not {0, 1, 2, 3} & {index for train in folds.train for index in train}


def test_empty():
    assert make_folds([], 2).score == []


def test_questions_about_one_manual_are_not_one_group(candidate):
    """Else everything would be held out of every training."""
    rng = random.Random(0)
    words = [f"{word}{n}" for word in ("parcel", "invoice", "router", "refund", "screen") for n in range(40)]
    manual = "\n".join(" ".join(rng.sample(words, 40)) for _ in range(10))
    rows = [candidate(f"{n:03d}", f"{manual}\n{' '.join(rng.sample(words, 8))}?") for n in range(200)]
    assert [len(train) for train in make_folds(rows, 2).train] == [100, 100]
    again = [candidate(f"copy-{n}", row.messages[0].content, subject=f"x{n}") for n, row in enumerate(rows[:20])]
    folds = make_folds([*rows, *again], 2)
    assert folds.score[200:] == folds.score[:20], "copies stay together"
