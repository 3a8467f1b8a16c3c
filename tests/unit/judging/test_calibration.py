"""What a judge's word is worth, and when it stops being worth it."""

from datetime import UTC, datetime, timedelta

import pytest
from sklearn.metrics import cohen_kappa_score

from flywheel.config import JudgingConfig
from flywheel.errors import EngineError, UsageError
from flywheel.judging import calibration
from flywheel.judging.calibration import agree, calibrate_marks, calibrate_pairs, calibrations
from flywheel.judging.drift import Probes, check_drift, compare, drifted
from flywheel.judging.judge import ScorerJudge
from flywheel.judging.targets import human_marks, human_pairs
from flywheel.lake.manifests import list_manifests
from flywheel.records import Inference, Message
from flywheel.review.labels import add_labels, make_label, read_labels, retract
from flywheel.review.settle import counting

T0 = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = JudgingConfig(min_labels=10, attack_items=8)


def inference(number: int) -> Inference:
    return Inference(
        inference_id=f"i{number}", flow="f", ts=T0, subject=f"s{number}", model_version="m",
        messages=[Message(role="user", content=f"question {number}")], choices=[f"bad {number}"],
    )  # fmt: skip


ROWS = {f"i{number}": inference(number) for number in range(40)}
MAY = {name: {"evaluation"} for name in ROWS}


def label(number: int, kind="correct", minutes=0, annotator="ann", **more):
    row, correction = ROWS[f"i{number}"], more.pop("correction", f"good {number}" if kind == "correct" else None)
    made = make_label(
        row, annotator=annotator, kind=kind, split="tune", correction=correction, ts=T0 + timedelta(minutes=minutes)
    )
    return made.model_copy(update=more)


def may_gate(lake, flow, version, **more):
    tune = {item.label_id for item in read_labels(lake, flow, split="tune")}
    return calibration.may_gate(lake, flow, version, tune_labels=tune, **more)


def good(messages, answers):
    """Knows the right answer to each question."""
    return [float(text == f"good {messages[-1].content.split()[-1]}") for text in answers]


def calibrate(lake, judge, count=20, wrong=0):
    labels = [label(n, correction=f"{'worse' if n < wrong else 'good'} {n}") for n in range(count)]
    add_labels(lake, labels)
    now = read_labels(lake, "f", split="tune")
    seen = [item.label_id for item in now]
    return calibrate_pairs(lake, "f", judge, human_pairs(now, ROWS, MAY), POLICY, seen=seen)


@pytest.fixture
def sound():
    return ScorerJudge("judge-sound", good)


def test_pairs_are_corrections_and_comparisons_on_sides_that_say_nothing():
    labels = [label(n) for n in range(30)]
    labels += [label(30 + n, "compare", value=value, other_answer="other") for n, value in enumerate((1.0, 0.0, -1.0))]
    labels += [label(35, "accept"), label(36, correction="bad 36"), label(37, "compare")]
    found = human_pairs(labels, ROWS, MAY)
    assert len(found) == 33
    corrected = found[:30]
    assert all(getattr(item.pair, item.preferred).startswith("good") for item in corrected)
    assert 8 < sum(item.preferred == "left" for item in corrected) < 22
    served, tie, other = found[30:]
    assert getattr(served.pair, served.preferred) == "bad 30"
    assert tie.preferred == "tie"
    assert getattr(other.pair, other.preferred) == "other"
    assert human_pairs([label(1)], {}, MAY) == []


def test_marks_are_accept_reject_and_both_sides_of_a_correction():
    found = human_marks([label(1, "accept"), label(2, "reject"), label(3)], ROWS, MAY)
    assert [(item.answer.text, item.right) for item in found] == [
        ("bad 1", True), ("bad 2", False), ("bad 3", False), ("good 3", True),
    ]  # fmt: skip


def test_an_adjudication_counts_alone():
    labels = [label(1, "accept"), label(1, "reject", annotator="bob"), label(1, annotator="eve", adjudicates=True)]
    assert [(item.answer.text, item.right) for item in human_marks(counting(labels), ROWS, MAY)] == [
        ("bad 1", False), ("good 1", True),
    ]  # fmt: skip
    assert human_marks(counting(labels[:2]), ROWS, MAY) == [], "what is disputed measures nobody"
    twice = [label(1), label(1, annotator="bob", correction="Good 1", minutes=1)]
    assert len(human_pairs(counting(twice), ROWS, MAY)) == 1, "two who agree are one answer, not two"


def test_kappa_and_its_interval():
    people = ["left", "right"] * 40
    judge = [*people[:70], *("tie" for _ in range(10))]
    found = agree(people, judge, [str(n) for n in range(80)], abstained=10)
    assert found.kappa == pytest.approx(cohen_kappa_score(people, judge))
    assert found.interval[0] < found.kappa < found.interval[1]
    assert agree(["left"] * 5, ["left"] * 5, list("abcde"), abstained=0).kappa is None


def test_a_sound_judge_may_gate_and_the_manifest_names_its_labels(lake, sound):
    assert may_gate(lake, "f", "judge-sound", policy=POLICY) == (
        False, "judge-sound was never calibrated (pairwise); run `flywheel judge calibrate`",
    )  # fmt: skip
    made = calibrate(lake, sound)
    counts, why = may_gate(lake, "f", "judge-sound", policy=POLICY)
    assert (counts, made.agreement.kappa) == (True, 1.0)
    assert "1.00 on 20 labels" in why
    (manifest,) = list_manifests(lake, "judge_calibration", "f")
    assert manifest.data["label_ids"] == sorted(item.label_id for item in read_labels(lake, "f"))
    assert not may_gate(lake, "f", "judge-sound", policy=POLICY, mode="pointwise")[0]
    assert not may_gate(lake, "other", "judge-sound", policy=POLICY)[0]


@pytest.mark.parametrize(
    ("count", "wrong", "policy", "why"),
    [
        (20, 8, {}, "its kappa with people is"),
        (20, 0, {"min_labels": 21}, "at least 21 are needed"),
        (20, 2, {"min_kappa": 0.99}, "at least 0.99 is needed"),
    ],
)
def test_a_judge_that_is_not_good_enough(lake, sound, count, wrong, policy, why):
    calibrate(lake, sound, count, wrong)
    counts, reason = may_gate(lake, "f", sound.version, policy=POLICY.model_copy(update=policy))
    assert not counts
    assert why in reason


def test_a_judge_that_is_easy_to_fool_does_not_count_however_well_it_agrees(lake):
    longer = ScorerJudge("judge-long", lambda _, answers: [float(len(text)) for text in answers])
    made = calibrate(lake, longer)
    assert made.agreement.kappa == 1.0  # "good 3" is longer than "bad 3"
    counts, why = may_gate(lake, "f", "judge-long", policy=POLICY)
    assert not counts
    assert "gains by filler: 100% (at most 10%)" in why


def test_new_and_retracted_tune_labels_make_a_calibration_stale(lake, sound):
    calibrate(lake, sound)
    late = label(30, minutes=5)
    add_labels(lake, [late])
    counts, why = may_gate(lake, "f", sound.version, policy=POLICY)
    assert (counts, "not those of its calibration" in why) == (False, True)
    retract(lake, late)
    assert may_gate(lake, "f", sound.version, policy=POLICY)[0]
    add_labels(lake, [label(31).model_copy(update={"split": "gate"})])
    assert may_gate(lake, "f", sound.version, policy=POLICY)[0]
    calibrate(lake, sound, 25)
    assert may_gate(lake, "f", sound.version, policy=POLICY)[0]
    assert [item.agreement.n for item in calibrations(lake, "f", sound.version)] == [20, 25]


def test_labels_that_a_judge_may_not_see_are_left_out_with_the_reason(lake, make):
    judge = make["judge"](needs=frozenset({"evaluation", "third_party"}))
    with pytest.raises(UsageError, match=r"no_consent:third_party \(20\)"):
        calibrate(lake, judge)


def test_marks_are_calibrated_on_their_own(lake, sound):
    add_labels(lake, [label(n) for n in range(20)])
    now = read_labels(lake, "f", split="tune")
    marks = human_marks(now, ROWS, MAY)
    made = calibrate_marks(lake, "f", sound, marks, POLICY, seen=[item.label_id for item in now])
    assert (made.agreement.n, made.agreement.kappa, made.mode) == (40, 1.0, "pointwise")
    assert may_gate(lake, "f", sound.version, policy=POLICY, mode="pointwise")[0]
    assert not may_gate(lake, "f", sound.version, policy=POLICY)[0]


def test_a_judge_that_changes_behind_its_version_is_found_out_and_stays_so(lake, sound):
    calibrate(lake, sound)
    assert check_drift(lake, "f", sound) is None
    other = ScorerJudge(sound.version, lambda _, answers: [float(len(text)) for text in answers])
    assert "probes otherwise" in check_drift(lake, "f", other)
    assert check_drift(lake, "f", sound) == drifted(lake, "f", sound.version)
    counts, why = may_gate(lake, "f", sound.version, policy=POLICY)
    assert (counts, "set judging.revision" in why) == (False, True)
    assert drifted(lake, "f", "judge-2") is None


def test_a_judge_that_keeps_to_no_form_is_an_error_before_anything_is_stored(lake, make):
    with pytest.raises(EngineError, match=r"judging\.form"):
        check_drift(lake, "f", make["judge"](lambda _: "the first one, I think"))
    with pytest.raises(EngineError, match="connection lost"):
        check_drift(lake, "f", make["judge"](lambda _: None))
    assert lake.store.list("judging") == []


@pytest.mark.parametrize(
    ("verdicts", "reported", "why"),
    [
        (["left/left"] * 10, ["m-1"], None),
        (["left/left"] * 9 + ["tie/left"], ["m-1"], None),
        (["left/left"] * 8 + ["tie/left"] * 2, ["m-1"], "2 of 10 probes"),
        (["left/left"] * 10, ["m-2"], "was m-1, now it is m-2"),
        (["left/left"] * 10, [], None),
    ],
)
def test_what_counts_as_drift(verdicts, reported, why):
    found = compare(Probes(verdicts=["left/left"] * 10, reported=["m-1"]), Probes(verdicts=verdicts, reported=reported))
    assert (found is None) if why is None else (why in found)
