from dataclasses import replace
from datetime import UTC, datetime

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.lake.tables import open_lake
from flywheel.operate.readiness import Counts, checklist, readiness
from flywheel.records import Check, Consent, EvalCase, Feedback, Inference, Message
from flywheel.review.labels import add_labels, make_label, retract
from flywheel.rollout import routing

T0 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def config(tmp_path):
    return load(FlywheelConfig, overrides={"home": str(tmp_path / "home"), "evaluation.guard_suites": ["golden"]})


def answer(n, consent=("training",), **fields):
    return Inference(**{
        "inference_id": f"i{n}", "flow": "triage", "ts": T0, "subject": f"s{n}", "model_version": "m",
        "consent": list(consent), "messages": [Message(role="user", content="q")], "choices": ["a"], **fields,
    })  # fmt: skip


def said(n, kind="thumbs", value=1.0, **fields):
    return Feedback(
        feedback_id=f"f{n}-{kind}",
        inference_id=f"i{n}",
        flow="triage",
        ts=T0,
        subject="x",
        kind=kind,
        value=value,
        **fields,
    )


def have(lake, config):
    return {item["name"]: item["have"] for item in readiness(lake, config)["items"]}


def test_an_empty_lake_lacks_everything_and_says_how_to_get_it(config):
    found = readiness(open_lake(config), config)
    assert not found["ready"]
    assert all(item["have"] == 0 and not item["done"] and item["next"] for item in found["items"])
    needs = {item["name"]: item["need"] for item in found["items"]}
    assert needs["rated or corrected"] == 500
    assert needs["starter labels"] == config.labels.starter_set == 100
    assert needs["random-sample labels that judge"] == config.rollout.gate.min_primary_cases == 600
    assert needs["cases of suite golden"] == config.rollout.gate.min_guard_cases == 200
    assert needs["answers captured"] == 2_000  # 600 labels come from the 30 % of people who judge


def test_what_the_lake_holds_is_counted_once(config):
    lake = open_lake(config)
    rows = [answer(n) for n in range(6)] + [answer(6, ()), answer(7, traffic_kind="shadow"), answer(8, ("evaluation",))]
    lake.append("inferences", rows, app="t", version=1)
    lake.append("consents", [Consent(subject="s0", purpose="training", ts=T0, state="withdrawn")], app="t", version=1)
    events = [said(0), said(1), said(1, "correction", None, text="b"), said(2, "copy", None), said(3, "rating", 4)]
    events += [said(4, source="judge"), said(6), said(7)]
    lake.append("feedback", events, app="t", version=1)
    routing.publish(lake.store, routing.bootstrap("triage", routing.Variant(version="v1", folder="/m"), actor="t"))
    labels = [
        make_label(rows[n], annotator=who, kind="accept", split=split, origin=origin, ts=T0)
        for n, who, split, origin in [
            (1, "ann", "gate", "random"), (1, "bob", "gate", "random"), (2, "ann", "tune", "random"),
            (3, "ann", "gate", "curated"), (4, "eve", "gate", "random"),
        ]
    ]  # fmt: skip
    add_labels(lake, labels)
    retract(lake, labels[-1])
    case = EvalCase(
        case_id="c1",
        flow="triage",
        suite="golden",
        messages=[],
        check=Check(kind="exact", expected="x"),
        origin="import",
    )
    others = [
        case.model_copy(update={"case_id": f"c{n}", "suite": suite}) for n, suite in ((2, "golden"), (3, "random"))
    ]
    gone = case.model_copy(update={"version": 2, "status": "retired"})
    lake.append("eval_cases", [case, *others, gone], app="t", version=1)
    assert have(lake, config) == {
        "a live model": 1, "answers captured": 8, "with consent to train": 5, "rated or corrected": 2, "a reviewer": 2,
        "starter labels": 1, "random-sample labels that judge": 1, "cases of suite golden": 1,
    }  # fmt: skip


def test_answers_that_make_no_case_do_not_count_as_judging(config):
    lake = open_lake(config)
    said_of = [
        (0, "ann", "reject"),
        (1, "ann", "accept"),
        (1, "bob", "reject"),
        (2, "ann", "rate"),
        (3, "ann", "accept"),
    ]
    labels = [make_label(answer(n), annotator=who, kind=kind, split="gate", ts=T0) for n, who, kind in said_of]
    add_labels(lake, labels)
    have = {item["name"]: item["have"] for item in readiness(lake, config)["items"]}
    assert have["random-sample labels that judge"] == 1


def test_reaching_the_goals_is_being_ready_and_the_ideal_is_more(config):
    full = Counts(
        live=True, captured=2_000, consented=500, rated=500, starter=100, random=600, reviewers=1, cases={"golden": 200}
    )
    items = checklist(full, config)
    assert all(item.done for item in items)
    assert [(item.name, item.ideal) for item in items if item.ideal] == [("rated or corrected", 1_000)]
    short = checklist(replace(full, rated=499), config)
    assert [item.name for item in short if not item.done] == ["rated or corrected"]


def test_the_configuration_decides_what_is_asked_for(config):
    loose = load(
        FlywheelConfig,
        overrides={"evaluation.guard_suites": [], "rollout.gate.min_primary_cases": 30, "first_model": "tiny"},
    )
    items = {item.name: item for item in checklist(Counts(), loose)}
    assert not any(name.startswith("cases") for name in items)
    assert items["random-sample labels that judge"].need == 30
    assert items["answers captured"].need == 500
    assert items["a live model"].next == "flywheel up"


def test_suites_that_we_make_are_added_and_others_imported(config):
    suites = ["golden", "safety", "regression"]
    guards = config.evaluation.model_copy(update={"guard_suites": suites})
    items = checklist(Counts(), config.model_copy(update={"evaluation": guards}))[-3:]
    assert ["cases import" in items[0].next, *(item.next for item in items[1:])] == [
        True, "flywheel cases add safety", "flywheel cases add regression",
    ]  # fmt: skip


def test_a_regression_suite_that_cannot_exist_yet_keeps_nobody_from_being_ready(config):
    config = config.model_copy(
        update={"evaluation": config.evaluation.model_copy(update={"guard_suites": ["regression"]})}
    )
    (item,) = [item for item in readiness(open_lake(config), config)["items"] if "regression" in item["name"]]
    assert (item["done"], item["need"]) == (True, 0)
    assert "nothing yet" in item["next"]
