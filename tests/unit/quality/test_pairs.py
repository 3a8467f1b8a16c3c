import json

from flywheel.quality.pairs import AnswerPool, contrasts


def answers(candidate):
    values = [("x", 1), ("y", 1), ("x", 2), ("z", 2), ("x", 1)]
    return [candidate(str(i), target=json.dumps({"a": a, "b": b})) for i, (a, b) in enumerate(values)]


def test_json_contrasts_change_one_field(candidate):
    rows = answers(candidate)
    made = contrasts(rows[0], AnswerPool.of(rows), 8)
    assert [json.loads(text) for text in made] == [{"a": "y", "b": 1}, {"a": "x", "b": 2}, {"a": "z", "b": 1}]
    assert all(": " in text for text in made)  # spacing like the target's


def test_text_contrasts_are_other_answers_most_frequent_first(candidate):
    rows = [candidate(str(i), target=text) for i, text in enumerate(["one", "two", "three", "two"])]
    assert contrasts(rows[0], AnswerPool.of(rows), 2) == ["two", "three"]


def test_the_served_answer_is_no_contrast(candidate):
    rows = [candidate(str(i), target=text, answer="two") for i, text in enumerate(["one", "two", "three"])]
    assert contrasts(rows[0], AnswerPool.of(rows), 5) == ["three"]


def test_volume_of_one_rater_does_not_buy_a_place(candidate):
    rows = [candidate(f"h{i}", target="spam", rater="h") for i in range(9)]
    rows += [candidate(str(i), target="fine") for i in range(2)] + [candidate("t", target="target")]
    assert contrasts(rows[-1], AnswerPool.of(rows), 1) == ["fine"]


def test_salted_draw_depends_on_content_only(candidate):
    rows = [candidate(str(i), target=f"answer {i}") for i in range(20)]
    pool = AnswerPool.of(rows)
    assert contrasts(rows[0], pool, 3, salt="s") == contrasts(rows[0], AnswerPool.of(rows[::-1]), 3, salt="s")
    assert len({tuple(contrasts(row, pool, 3, salt="s")) for row in rows}) > 10
