"""What Argilla and Label Studio are given, and what they give back, in the shapes of their own files."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from flywheel.records import Inference, Message
from flywheel.review.exchange import FORMATS, argilla, label_studio
from flywheel.review.exchange.common import FormatProblem, Reading, Slip
from flywheel.review.guideline import Guideline
from flywheel.review.keys import Given
from flywheel.review.queue import Other, QueueItem

ROW = Inference(
    inference_id="i1", flow="triage", ts=datetime(2026, 1, 1, tzinfo=UTC), subject="s1", model_version="secret-m1",
    messages=[Message(role="system", content="be brief"), Message(role="user", content="where is it?")],
    choices=["served text"],
)  # fmt: skip
ITEM = QueueItem(ROW, "gate", "random")
PAIR = ITEM._replace(other=Other("other text", "secret-m2"))
ANN, BOB = "6f0b5a0e-6f43-4a3f-9a51-3f2f2c9d7a10", "7f0b5a0e-6f43-4a3f-9a51-3f2f2c9d7a11"


def slip(question="judge", first=True) -> Slip:
    return Slip("triage", question, "guideline-1", first)


def reading(**changes) -> Reading:
    return Reading("triage", {"i1": ITEM}, **changes)


def answered(record: dict, **responses) -> dict:
    """As ``dataset.records.to_json`` writes it."""
    said = {name: [{"value": value, "user_id": user} for user, value in given] for name, given in responses.items()}
    return {**record, "responses": said, "_server_id": "9a51"}


def annotated(task: dict, *results, by=7, **fields) -> dict:
    """As Label Studio exports it."""
    one = {
        "id": 11, "completed_by": by, "result": list(results), "was_cancelled": False, "ground_truth": False,
        "created_at": "2026-02-01T10:00:00.000000Z", "updated_at": "2026-02-01T10:05:00.000000Z", "lead_time": 4.288,
        **fields,
    }  # fmt: skip
    return {"id": 1, "project": 3, **task, "annotations": [one]}


def control(name, kind, value):
    return {"id": "x", "from_name": name, "to_name": "answer", "type": kind, "origin": "manual", "value": value}


def verdict(choice):
    return control("verdict", "choices", {"choices": [choice]})


def typed(*text):
    return control("correction", "textarea", {"text": list(text)})


def test_an_argilla_record_fills_the_correction_with_the_served_answer():
    record = argilla.write(ITEM, slip())
    assert list(record) == ["id", "fields", "metadata", "suggestions", "responses", "vectors"]
    assert record["fields"] == {"conversation": "system: be brief\n\nuser: where is it?", "answer": "served text"}
    assert record["suggestions"]["correction"] == {"value": "served text", "score": None, "agent": "served answer"}
    assert record["metadata"]["guideline_version"] == "guideline-1"


def test_argilla_responses_come_back_by_person():
    record = answered(
        argilla.write(ITEM, slip()), verdict=[(ANN, "accept"), (BOB, "correct")],
        correction=[(ANN, "served text"), (BOB, "right text")], rating=[(BOB, 2)], mood=[(BOB, "fine")],
    )  # fmt: skip
    read = reading()
    found = argilla.read(record, read)
    assert [(one.annotator, one.given) for one in found] == [
        (f"argilla-{ANN}", Given("accept")), (f"argilla-{BOB}", Given("correct", "right text")),
        (f"argilla-{BOB}", Given("rate", value=2.0)),
    ]  # fmt: skip
    assert {(one.origin, one.guideline_version, one.ts) for one in found} == {("random", "guideline-1", None)}
    assert read.ignored == Counter({"question mood": 1})


def test_argilla_drafts_are_left_out_and_the_nameless_need_a_name():
    record = argilla.write(ITEM, slip())
    record["responses"] = {"verdict": [{"value": "reject", "user_id": ANN, "status": "draft"}]}
    read = reading()
    assert argilla.read(record, read) == []
    assert read.ignored == Counter({"draft response": 1})
    nameless = answered(argilla.write(ITEM, slip()), verdict=[("None", "reject")])
    with pytest.raises(FormatProblem, match="--annotator"):
        argilla.read(nameless, reading())
    assert argilla.read(nameless, reading(annotator="eve"))[0].annotator == "eve"


def test_a_label_studio_task_has_a_prediction_and_comes_back():
    task = label_studio.write(ITEM, slip())
    assert task["predictions"][0]["result"][0]["value"] == {"text": ["served text"]}
    assert task["data"]["conversation"][1] == {"author": "user", "text": "where is it?"}
    (one,) = label_studio.read(annotated(task, verdict("correct"), typed("served text", "right text")), reading())
    assert (one.annotator, one.given, one.seconds) == ("label-studio-7", Given("correct", "right text"), 4.288)
    assert one.ts == datetime(2026, 2, 1, 10, 5, tzinfo=UTC)
    named = annotated(task, verdict("reject"), by={"id": 7, "email": "ann@example.com"})
    assert label_studio.read(named, reading())[0].annotator == "ann@example.com"
    rated = annotated(task, control("rating", "rating", {"rating": 4}), control("tag", "labels", {"labels": []}))
    assert [row.given for row in label_studio.read(rated, reading())] == [Given("rate", value=4.0)]
    skipped = annotated(task, verdict("accept"), was_cancelled=True)
    assert label_studio.read(skipped, reading()) == []


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("choice", ["first", "second", "tie"])
def test_comparisons_are_blind_and_come_back_for_the_served_answer(first, choice):
    expected = 0.0 if choice == "tie" else 1.0 if (choice == "first") == first else -1.0
    record, task = argilla.write(PAIR, slip("compare", first)), label_studio.write(PAIR, slip("compare", first))
    assert "secret" not in str(record) + str(task)
    shown = (task["data"]["first"], task["data"]["second"])
    assert shown == (("served text", "other text") if first else ("other text", "served text"))
    (one,) = argilla.read(answered(record, better=[(ANN, choice)]), reading())
    tie = control("tie", "choices", {"choices": ["tie"]})
    side = control("better", "pairwise", {"selected": {"first": "left", "second": "right"}.get(choice)})
    (other,) = label_studio.read(annotated(task, tie if choice == "tie" else side), reading())
    assert one.given == other.given == Given("compare", value=expected)
    assert one.other_answer == other.other_answer == "other text"


@pytest.mark.parametrize(
    ("record", "field"),
    [({}, "metadata"), ({"metadata": {"inference_id": "i9"}, "responses": {}}, "metadata.inference_id"),
     ({"metadata": {"inference_id": "i1", "flow": "other"}, "responses": {}}, "metadata.flow"),
     (answered(argilla.write(ITEM, slip()), verdict=[(ANN, "maybe")]), "responses.verdict"),
     (answered(argilla.write(ITEM, slip()), verdict=[(ANN, "correct")]), "responses.verdict"),
     (answered(argilla.write(ITEM, slip()), verdict=[(ANN, "accept")], correction=[(ANN, "no")]), "responses.verdict"),
     (answered(argilla.write(ITEM, slip()), rating=[(ANN, 9)]), "responses.rating"),
     (answered(argilla.write(ITEM, slip()), better=[(ANN, "first")]), "first"),
     ({**argilla.write(ITEM, slip()), "responses": {"verdict": "accept"}}, "responses.verdict")],
)  # fmt: skip
def test_what_argilla_cannot_mean_is_refused_with_its_field_and_without_its_text(record, field):
    with pytest.raises(FormatProblem) as caught:
        argilla.read(record, reading())
    assert caught.value.field == field
    assert "served text" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "field"),
    [({"data": {}}, "data"), ({"data": {"inference_id": "i9"}, "annotations": []}, "data.inference_id"),
     (annotated(label_studio.write(ITEM, slip()), "text"), "annotations.0.result"),
     (annotated(label_studio.write(ITEM, slip()), verdict("accept"), updated_at="yesterday"),
      "annotations.0.updated_at"),
     (annotated(label_studio.write(ITEM, slip()), verdict("accept"), updated_at="0001-01-01T00:00:00+05:00"),
      "annotations.0.updated_at"),
     (annotated(label_studio.write(ITEM, slip()), verdict("accept"), by=None), "annotations.0"),
     ({**label_studio.write(ITEM, slip()), "annotations": [3]}, "annotations.0")],
)  # fmt: skip
def test_what_label_studio_cannot_mean_is_refused(record, field):
    with pytest.raises(FormatProblem) as caught:
        label_studio.read(record, reading())
    assert caught.value.field == field


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("question", ["judge", "rate", "compare"])
def test_setup_names_every_field_and_question_of_the_file(name, question):
    said = FORMATS[name].setup(question, Guideline("g", "Be strict."))
    assert "Be strict." in said
    wanted = {"judge": ("answer", "verdict", "correction"), "rate": ("answer", "rating"),
              "compare": ("first", "second", "better", "tie")}[question]  # fmt: skip
    assert all(f'"{word}"' in said for word in wanted)
