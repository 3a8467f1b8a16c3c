"""``flywheel judge`` over a lake: what is judged, by whose consent, and what the gate and the lineage hear of it."""

import json

import pytest
from uuid6 import uuid7

from flywheel.config import FlywheelConfig, load
from flywheel.errors import ConfigError, UsageError
from flywheel.evaluation.run import drawn
from flywheel.evaluation.sampling import Sampling
from flywheel.lake.tables import open_lake
from flywheel.records import Check, EvalCase, EvalResult, Inference, Message, ShadowPair, utcnow
from flywheel.review.labels import add_labels, make_label
from flywheel.rollout import routing
from flywheel.testing import FakeOpenAI, quoted_answers
from flywheel.workflow.evaluations.casework import freeze_suite
from flywheel.workflow.evaluations.judge_runs import (
    calibrate,
    calibration_labels,
    configured_version,
    evidence,
    run,
    status,
)

GRANTS = {"ann": ["evaluation"], "ben": ["evaluation", "third_party"], "cid": []}


def prefers_good(body):
    answers = ["good" in text for text in quoted_answers(body)]
    if len(answers) == 1:
        return json.dumps({"score": 10 * answers[0]})
    return json.dumps({"better": "tie" if answers[0] == answers[1] else "A" if answers[0] else "B"})


class Flow:
    """Three people with other consents; v2's answers are good where v1's are bad, on a suite and in the shadow."""

    def __init__(self, home, url, **judging):
        self.config = FlywheelConfig(
            home=home,
            judging={"backend": "endpoint", "model": "m", "url": url, "min_labels": 6, "attack_items": 4, **judging},
        )
        self.lake = open_lake(self.config)
        self.rows = {name: self.inference(name, grants) for name, grants in GRANTS.items()}
        cases = [self.case(name, row) for name, row in self.rows.items()] + [self.case("golden", None)]
        results = [self.result(case, version) for case in cases for version in ("v1", "v2")]
        for table, rows in (
            ("inferences", list(self.rows.values())), ("eval_cases", cases), ("eval_results", results),
            ("shadow_pairs", [self.pair(row) for row in self.rows.values()]),
        ):  # fmt: skip
            self.lake.append(table, rows, app="test", version=0, flow="triage")
        live = routing.Variant(version="v1", folder="/models/v1")
        routing.publish(self.lake.store, routing.bootstrap("triage", live, actor="test"))

    def inference(self, subject, grants):
        return Inference(
            inference_id=str(uuid7()), flow="triage", ts=utcnow(), subject=subject, consent=grants, model_version="v1",
            messages=[Message(role="user", content=f"{subject} asks")], choices=[f"bad for {subject}"],
        )  # fmt: skip

    def case(self, name, row):
        return EvalCase(
            case_id=f"case-{name}", flow="triage", suite="random", origin="random",
            check=Check(kind="exact", expected="x"), messages=[Message(role="user", content=f"{name} asks")],
            inference_id=row and row.inference_id, subject=row and row.subject,
        )  # fmt: skip

    def result(self, case, version):
        answer = "good" if version == "v2" else f"bad for {case.case_id}"
        return EvalResult(
            run_id=f"eval-{version}", case_id=case.case_id, case_version=1, suite="random", model_version=version,
            answer=answer, passed=False, score=0.0,
        )  # fmt: skip

    def pair(self, row):
        return ShadowPair(
            inference_id=row.inference_id, flow="triage", ts=row.ts, subject=row.subject, candidate="v2",
            live_version="v1", live_answer="bad", candidate_answer="good",
        )  # fmt: skip

    def label(self):
        labels = []
        rows = [self.inference(f"person-{n}", ["evaluation"]) for n in range(8)]
        self.lake.append("inferences", rows, app="more", version=0)
        for number, row in enumerate(rows):
            labels.append(make_label(row, annotator="eve", kind="correct", split="tune", correction=f"good {number}"))
        add_labels(self.lake, labels)
        return {label.label_id for label in labels}


@pytest.fixture
def server():
    with FakeOpenAI(prefers_good) as fake:
        yield fake


@pytest.fixture
def flow(tmp_path, server):
    return Flow(tmp_path / "home", server.url)


def test_a_suite_is_judged_for_those_who_agree_and_for_cases_of_nobody(flow, server):
    result = run(flow.config, candidate="v2", suite="random")
    assert (result["pairs"], result["asked"], result["dropped"]) == (4, 3, {"no_consent:evaluation": 1})
    assert (result["win_rate"]["wins"], result["win_rate"]["n"], result["live"]) == (3, 3, "v1")
    assert (result["may_gate"], "never calibrated" in result["why"]) == (False, True)
    asked = len(server.calls)
    again = run(flow.config, candidate="v2", suite="random")
    assert (again["asked"], again["reused"], again["win_rate"]) == (0, 3, result["win_rate"])
    assert len(server.calls) - asked == 20  # the probes alone


def test_answers_that_were_drawn_otherwise_are_not_compared(flow):
    """An evaluation at another temperature, or with shorter answers, says nothing about what is served."""
    case = flow.case("drawn", None)
    usual = drawn(flow.config, Sampling(flow.config.evaluation.max_tokens))
    other = drawn(flow.config, Sampling(flow.config.evaluation.max_tokens, temperature=1.0))
    flow.lake.append("eval_cases", [case], app="test", version=1)
    results = [
        flow.result(case, version).model_copy(update={"run_id": run_id, "drawn": how, "answer": answer})
        for version, run_id, how, answer in (
            ("v1", "eval-a", usual, "bad answer"), ("v1", "eval-z", other, "good by chance"),
            ("v2", "eval-a", other, "bad by chance"), ("v2", "eval-b", usual, "good"),
        )
    ]  # fmt: skip
    flow.lake.append("eval_results", results, app="test", version=1, flow="triage")
    assert run(flow.config, candidate="v2", suite="random")["win_rate"]["wins"] == 4


def test_the_shadow_is_judged(flow):
    result = run(flow.config, candidate="v2")
    assert (result["pairs"], result["asked"], result["dropped"]) == (3, 2, {"no_consent:evaluation": 1})
    assert evidence(flow.lake, flow.config, candidate="v2", live="v1").n == 2
    assert evidence(flow.lake, flow.config, candidate="v3", live="v1") is None


def test_a_suite_that_was_selected_is_judged_for_people_and_not_for_the_gate(flow):
    case = flow.case("golden", None).model_copy(update={"case_id": "case-failed", "suite": "failures"})
    flow.lake.append("eval_cases", [case], app="test", version=1)
    results = [flow.result(case, version).model_copy(update={"suite": "failures"}) for version in ("v1", "v2")]
    flow.lake.append("eval_results", results, app="test", version=1, flow="triage")
    assert run(flow.config, candidate="v2", suite="failures")["win_rate"]["wins"] == 1
    assert evidence(flow.lake, flow.config, candidate="v2", live="v1") is None
    run(flow.config, candidate="v2", suite="random")
    assert evidence(flow.lake, flow.config, candidate="v2", live="v1").n == 3
    name = freeze_suite(flow.lake, flow.config, "random")
    frozen = flow.config.evaluation.model_copy(update={"primary_suite": name, "guard_suites": []})
    config = flow.config.model_copy(update={"evaluation": frozen})
    assert evidence(flow.lake, config, candidate="v2", live="v1").n == 3, "the primary suite may be a frozen one"


def test_a_judge_outside_sees_only_what_people_give_to_third_parties(tmp_path, server, monkeypatch):
    """The address is the fake's; only what counts as inside is changed."""
    monkeypatch.setattr("flywheel.workflow.evaluations.judge_runs.is_inside", lambda *_: False)
    flow = Flow(tmp_path / "home", server.url)
    result = run(flow.config, candidate="v2", suite="random")
    assert result["dropped"] == {"no_consent:third_party": 1, "no_consent:evaluation": 1}
    sent = json.dumps([body for _, body in server.calls])
    assert "ben asks" in sent
    assert "golden asks" in sent
    assert "ann asks" not in sent
    assert "cid asks" not in sent
    assert status(flow.config)["third_party"]


def test_calibrated_it_counts_and_its_labels_are_known(flow):
    labels = flow.label()
    made = calibrate(flow.config)
    assert (made["kappa"], made["labels"], made["may_gate"]) == (1.0, 8, True), made["why"]
    run(flow.config, candidate="v2", suite="random")
    heard = evidence(flow.lake, flow.config, candidate="v2", live="v1")
    assert (heard.counts, heard.n) == (True, 3)
    assert calibration_labels(flow.lake, flow.config) == labels
    shown = status(flow.config)
    assert shown["judge"] == configured_version(flow.lake, flow.config) == made["judge"]
    assert (shown["modes"]["pairwise"]["may_gate"], shown["modes"]["pointwise"]["may_gate"]) == (True, False)
    assert shown["judgements"] == 8 + 3
    marks = calibrate(flow.config, mode="pointwise")
    assert (marks["kappa"], marks["labels"]) == (1.0, 16)


def test_another_criterion_or_revision_is_another_judge(flow):
    def version(**change):
        judging = flow.config.judging.model_copy(update=change)
        return configured_version(flow.lake, flow.config.model_copy(update={"judging": judging}))

    assert len({version(), version(criterion="short"), version(revision="2"), version(model="n")}) == 4
    assert version(concurrency=1) == version()


def test_a_model_that_changes_behind_its_name_is_found_out(flow, server):
    flow.label()
    calibrate(flow.config)
    server.model = "fake-2"
    result = run(flow.config, candidate="v2", suite="random")
    assert "was fake-1, now it is fake-2" in result["drift"]
    assert not evidence(flow.lake, flow.config, candidate="v2", live="v1").counts


def test_without_a_judge_or_answers_it_says_what_to_do(flow, tmp_path):
    none = FlywheelConfig(home=tmp_path / "other")
    assert status(none)["judge"] is None
    assert evidence(open_lake(none), none, candidate="v2", live="v1") is None
    assert calibration_labels(open_lake(none), none) == frozenset()
    with pytest.raises(UsageError, match=r"judging\.backend"):
        calibrate(none)
    with pytest.raises(UsageError, match="no live model"):
        run(none, candidate="v2")
    with pytest.raises(UsageError, match="evaluate both models"):
        run(flow.config, candidate="v9", suite="random")
    with pytest.raises(UsageError, match="flywheel label"):
        calibrate(flow.config)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"backend": "endpoint", "model": "m"}, "judging.url"),
        ({"backend": "engine"}, "judging.model"),
        ({"backend": "engine", "model": "m", "url": "http://x/v1"}, "judging.url"),
        ({"backend": "endpoint", "model": "m", "url": "https://me:secret@x/v1"}, "key_env"),
        ({"backend": "endpoint", "model": "m", "url": "ftp://x"}, "http"),
    ],
)
def test_half_a_judge_is_no_configuration(settings, said):
    with pytest.raises(ConfigError, match=said):
        load(FlywheelConfig, None, {f"judging.{key}": value for key, value in settings.items()})
