from datetime import UTC, datetime, timedelta

import pytest

from flywheel.quality.reward_data import MOST_PAIRS, gather, slices_of
from flywheel.quality.rows import TUNE, Exclusions
from flywheel.records import Message

START = datetime(2026, 1, 1, tzinfo=UTC)


def pairs(rows, events, thumbs="pairs", **excluded):
    return gather(rows, events, consented={row.inference_id for row in rows} - {"refused"},
                  excluded=Exclusions(**excluded), thumbs=thumbs)  # fmt: skip


def test_a_comparison_names_the_other_choice_or_text(inference, reaction):
    rows = [inference("a", choices=["one", "two"]), inference("b", choices=["one", "two", "three"])]
    found = pairs(rows, [reaction("a", "comparison", -1.0), reaction("b", "comparison", 1.0, "three", choice_index=1)])
    said = [(one.chosen, one.rejected, one.share) for one in found.preferences]
    assert said == [("two", "one", 1), ("two", "three", 1)]
    assert found.preferences[0].slices["tenant"] == "default"


def test_votes_are_counted_by_person_and_ties_are_half(inference, reaction):
    rows = [inference("a", choices=["one", "two"])]
    votes = [("u", 1.0), ("v", 1.0), ("w", 0.0), ("x", -1.0), ("x", 1.0)]
    events = [reaction("a", "comparison", value, subject=who, ts=START + timedelta(minutes=place))
              for place, (who, value) in enumerate(votes)]  # fmt: skip
    found = pairs(rows, events).preferences
    assert [(one.chosen, one.share, one.votes) for one in found] == [("one", 3.5 / 4, 4)]
    assert found[0].raters == ["u", "user", "v", "w", "x"]
    other_side = pairs(rows, [reaction("a", "comparison", -1.0, subject="u", choice_index=1)]).preferences
    assert other_side[0].chosen == "one"


def test_what_gives_no_pair_has_a_reason(inference, reaction):
    rows = [
        inference("a", choices=["one", "two", "three"]), inference("b", choices=["one", "ONE "]),
        inference("refused", choices=["one", "two"]), inference("held", choices=["one", "two"], subject="held"),
        inference("tuned", choices=["one", "two"], subject="tuned"), inference("t", text="alone"),
    ]  # fmt: skip
    events = [reaction(row.inference_id, "comparison", 1.0) for row in rows[:5]]
    events += [reaction("a", "comparison", 1.0, choice_index=7), reaction("t", "thumbs", 1.0)]
    found = pairs(rows, events, subjects={"held": "label_gate", "tuned": TUNE})
    assert found.preferences == []
    assert found.dropped == {
        "comparison_without_other": 1, "comparison_of_equals": 1, "comparison_of_no_answer": 1,
        "no_training_consent": 1, "held_out": 2, "thumbs_without_counterpart": 1,
    }  # fmt: skip
    assert len(found.unused) == 7


def test_thumbs_compare_answers_to_the_same_prompt_only(inference, reaction):
    rows = [inference("a", "same", "good"), inference("b", "same", "bad"), inference("c", "other", "fine"),
            inference("d", "same", "bad")]  # fmt: skip
    events = [reaction("a", "thumbs", 1.0, subject="u"), reaction("b", "thumbs", -1.0, subject="v"),
              reaction("c", "thumbs", 1.0, subject="w"), reaction("d", "thumbs", -1.0, subject="x")]  # fmt: skip
    found = pairs(rows, events)
    assert [(one.chosen, one.rejected) for one in found.preferences] == [("good", "bad")]
    assert {"u", "v", "x"} <= set(found.preferences[0].raters)
    assert found.dropped == {"thumbs_without_counterpart": 1}
    outside = pairs(rows, events, thumbs="outside")
    assert [(one.chosen, one.rejected) for one in outside.preferences] == [("good", "bad"), ("fine", None)]
    assert pairs(rows, events, thumbs="off").preferences == []


def test_a_prompt_that_everybody_sends_does_not_outweigh_the_rest(inference, reaction):
    rows = [inference(f"{i:02d}", "hi", f"answer {i}") for i in range(20)]
    events = [reaction(row.inference_id, "thumbs", 1.0 if i % 2 else -1.0) for i, row in enumerate(rows)]
    found = pairs(rows, events)
    assert len(found.preferences) == MOST_PAIRS
    assert found.dropped == {"over_pairs_of_a_prompt": 100 - MOST_PAIRS}


@pytest.mark.parametrize(("target", "intent"), [('{"intent":"refund"}', "refund"), ("text", None), ('{"a":1}', None)])
def test_slices(target, intent):
    asked = "Where is the parcel that I ordered from your shop two weeks ago? It should have been here by now."
    said = [Message(role="user", content=asked)]
    found = slices_of(said, "acme", target)
    assert (found["tenant"], found["length"], found["language"]) == ("acme", "medium", "en")
    assert found.get("intent") == intent
