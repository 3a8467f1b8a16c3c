from datetime import timedelta

from flywheel.quality.candidates import build_candidates, explicit_score
from flywheel.quality.rows import TUNE, Evidence, Exclusions
from flywheel.records import FunctionCall, Message, ToolCall


def built(inferences, feedback, *, consented=None, excluded=None):
    ids = {row.inference_id for row in inferences} if consented is None else consented
    rows, drops = build_candidates(inferences, feedback, consented=ids, excluded=excluded or Exclusions())
    assert len(rows) + len(drops) == len(inferences)
    return rows, {drop.inference_id: drop.reason for drop in drops}


def test_correction_is_the_target_and_wins_over_a_thumb(inference, reaction):
    events = [reaction("a", "thumbs", 1.0), reaction("a", "correction", text=' {"a":"y"} ')]
    rows, _ = built([inference("a")], events)
    assert (rows[0].origin, rows[0].target, rows[0].answer) == ("correction", '{"a":"y"}', '{"a":"x"}')


def test_correction_that_says_the_same_in_other_spacing_is_praise(inference, reaction):
    rows, _ = built([inference("a")], [reaction("a", "correction", text='{ "a": "x" }')])
    assert (rows[0].origin, rows[0].target) == ("liked", '{"a":"x"}')


def test_last_thumb_of_a_person_counts(inference, reaction):
    first = reaction("a", "thumbs", 1.0)
    later = reaction("a", "thumbs", -1.0, ts=first.ts + timedelta(seconds=1))
    rows, reasons = built([inference("a")], [later, first])
    assert not rows
    assert reasons == {"a": "disliked_without_correction"}


def test_most_people_decide_between_corrections(inference, reaction):
    events = [
        reaction("a", "correction", text="no", subject="u1"),
        reaction("a", "correction", text="yes", subject="u2"),
        reaction("a", "correction", text="No", subject="u3"),
    ]
    rows, _ = built([inference("a")], events)
    assert rows[0].target.lower() == "no"


def test_use_counts_as_praise_only_without_another_question(inference, reaction):
    pair = [inference("a"), inference("b")]
    rows, reasons = built(pair, [reaction("a", "copy"), reaction("b", "copy"), reaction("b", "reprompt")])
    assert [row.inference_id for row in rows] == ["a"]
    assert reasons == {"b": "no_clear_feedback"}


def test_every_reason(inference, reaction):
    rows = [
        inference("consent"), inference("error", finish_reason="error"), inference("empty", choices=[]),
        inference("silent"), inference("cut", finish_reason="length"), inference("gate", subject="g"),
    ]  # fmt: skip
    likes = [reaction(row.inference_id, "thumbs", 1.0) for row in rows if row.inference_id != "silent"]
    excluded = Exclusions(subjects={"g": "label_gate"})
    kept, reasons = built(rows, likes, consented={r.inference_id for r in rows} - {"consent"}, excluded=excluded)
    assert not kept
    assert reasons == {
        "consent": "no_training_consent", "error": "no_answer", "empty": "no_answer",
        "silent": "no_feedback", "cut": "truncated_answer", "gate": "held_out",
    }  # fmt: skip


def test_people_whose_requests_judge_teach_nothing_about_others_rows_either(inference, reaction):
    """What somebody of the split `gate` writes into a correction would be learnt, and then asked of the model."""
    excluded = Exclusions(subjects={"g": "label_gate", "t": TUNE})
    events = [
        reaction("a", "correction", text="by the gate", subject="g"),
        reaction("b", "correction", text="by the gate", subject="g"),
        reaction("b", "thumbs", 1.0, subject="u"),
        reaction("c", "thumbs", 1.0, subject="t"),
        reaction("d", "correction", text="by the gate", subject="g"),
    ]
    rows, reasons = built([*map(inference, "abc"), inference("d", subject="t")], events, excluded=excluded)
    assert [(row.inference_id, row.target) for row in rows] == [("b", '{"a":"x"}'), ("d", "by the gate")]
    assert rows[1].held_out == TUNE
    assert reasons == {"a": "no_feedback", "c": "no_feedback"}


def test_tune_subjects_are_scored_but_marked(inference, reaction):
    excluded = Exclusions(subjects={"user": TUNE})
    rows, _ = built([inference("a")], [reaction("a", "thumbs", 1.0)], excluded=excluded)
    assert rows[0].held_out == TUNE


def test_explicit_score_mixes_thumbs_and_ratings():
    assert explicit_score(Evidence()) is None
    assert explicit_score(Evidence(up=1, rating=5)) == 1
    assert explicit_score(Evidence(up=1, down=1)) == 0


def test_answers_that_are_no_text_in_a_chat_template_are_dropped_by_name(inference, reaction):
    call = ToolCall(id="c", function=FunctionCall(name="f", arguments="{}"))
    asked = [Message(role="assistant", content="", tool_calls=[call])]
    rows = [
        inference("called", choices=[""], tool_calls=[[call]]),
        inference("told", messages=asked),
        inference("raw", api="completion"),
    ]
    kept, reasons = built(rows, [reaction(row.inference_id, "correction", text="better") for row in rows])
    assert not kept
    assert set(reasons.values()) == {"unsupported_form"}


def test_what_a_model_was_taught_needs_no_feedback_but_consent_and_room(inference, reaction):
    some = [inference(name, traffic_kind="taught") for name in "abc"] + [inference("d")]
    rows, reasons = built(some, [], consented={"a", "b", "d"}, excluded=Exclusions(inference_ids={"b": "label_gate"}))
    assert [(row.inference_id, row.origin, row.target) for row in rows] == [("a", "taught", '{"a":"x"}')]
    assert reasons == {"b": "held_out", "c": "no_training_consent", "d": "no_feedback"}


def test_an_answer_of_which_little_was_read_was_not_used(inference, reaction):
    shares = {"none": None, "all": 1.0, "half": 0.5, "less": 0.49, "nothing": 0.0}
    rows = [inference(name) for name in shares]
    events = [reaction(name, "completion", share) for name, share in shares.items()]
    kept, drops = built(rows, events)
    assert {row.inference_id for row in kept} == {"none", "all", "half"}
    assert set(drops.values()) == {"no_clear_feedback"}


def test_each_of_several_choices_has_an_opinion_of_its_own(inference, reaction):
    row = inference("a", choices=["yes", "no"], choice_served=0)
    up, down = (reaction("a", "thumbs", value, choice_index=n) for n, value in ((0, 1), (1, -1)))
    for later, other in ((up, down), (down, up)):
        events = [other, later.model_copy(update={"ts": later.ts + timedelta(minutes=1)})]
        ((kept,), _) = built([row], events)
        assert (kept.target, kept.evidence.up, kept.evidence.down) == ("yes", 1, 0)


def test_the_rater_of_a_liked_answer_is_somebody_who_liked_it(inference, reaction):
    said = [("ann", "thumbs", 1), ("ben", "rating", 5), ("cid", "thumbs", -1), ("dan", "rating", 2)]
    said.append(("eve", "completion", 0))
    row = inference("a")
    events = [
        reaction("a", kind, value, subject=who, ts=row.ts + timedelta(minutes=n))
        for n, (who, kind, value) in enumerate(said)
    ]
    ((kept,), _) = built([row], events)
    assert kept.rater == "ben"
