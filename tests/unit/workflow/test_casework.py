"""Cases from a lake: mined on one side only, drawn, saturated, and kept out of training."""

import pytest

from flywheel.errors import UsageError
from flywheel.evaluation.cases import load_cases, store_cases, stored_cases
from flywheel.evaluation.lifecycle import Choice, change_cases, retired_by
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import Manifest, write_manifest
from flywheel.operate.readiness import readiness
from flywheel.quality.build import build
from flywheel.quality.rows import Exclusions
from flywheel.records import Check, Consent, EvalCase, EvalResult, Message, utcnow
from flywheel.telemetry import Silent
from flywheel.workflow.evaluations.casework import (
    add_suite,
    freeze_suite,
    list_suites,
    mine_cases,
    saturated_cases,
    show_case,
)
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.prepare import split
from flywheel.workflow.turns.sides import decided_sides
from flywheel.workflow.turns.steps import open_turn

SUBJECTS = ("apple", "river", "copper", "violin", "harbour", "meadow", "lantern", "saddle", "thunder", "pillow")


def questions(flow, count=20, **fields):
    """One person each, and no two near-duplicates."""
    rows = []
    for n in range(count):
        text = f"my {SUBJECTS[n % 10]} and its {SUBJECTS[n // 10]} {SUBJECTS[(n * 3 + 1) % 10]} stopped working"
        rows += flow.answers(1, text=text, session_id=f"session {n}", **fields)
    return rows


def split_now(flow, done=None):
    turn = open_turn(flow.lake.store, flow.config)
    tables = ("inferences", "feedback", "consents", "labels", "eval_cases")
    done = done or {"snapshot": {"tables": {table: flow.lake.version(table) for table in tables}}}
    context = Context(flow.lake, flow.config, Keyring(flow.config.home_path()), turn, flow.config.home_path())
    return turn, split(context, done, Silent()), done


def test_only_consented_failures_of_the_evaluation_side_are_mined_and_the_side_holds(flow):
    flow = flow()
    rows = questions(flow)
    flow.react(rows, value=-1)
    flow.withdraw(rows[:5], purpose="evaluation")
    report = mine_cases(flow.lake, flow.config)
    cases = stored_cases(flow.lake, "triage")
    assert (report.failures, report.evaluation_side) == (20, 6)
    assert report.proposed + report.dropped.get("no_consent", 0) == 6
    assert {case.status for case in cases} == {"proposed"}
    assert not {row.inference_id for row in rows[:5]} & {case.inference_id for case in cases}
    assert load_cases(flow.lake, "triage") == []
    more = questions(flow, 40)
    flow.react(more, value=-1)
    turn, artifact, _ = split_now(flow)
    assert {artifact["failure_sides"][case.subject] for case in cases} == {"evaluation"}
    turn.write("02-split", artifact)
    sides = decided_sides(flow.lake, "triage", [])
    assert mine_cases(flow.lake, flow.config).failures == 60
    assert {sides[case.subject] for case in stored_cases(flow.lake, "triage")} == {"evaluation"}


def test_a_turn_retires_proposals_without_consent_and_keeps_the_others(flow):
    flow = flow()
    rows = questions(flow)
    flow.react(rows, "abandon")
    mine_cases(flow.lake, flow.config)
    before = stored_cases(flow.lake, "triage")
    gone = next(row for row in rows if row.inference_id == before[0].inference_id)
    flow.withdraw([gone], purpose="evaluation")
    split_now(flow)
    after = {case.case_id: case.status for case in stored_cases(flow.lake, "triage")}
    assert after == {case.case_id: "retired" if case is before[0] else "proposed" for case in before}
    flow.append("consents", [Consent(subject=gone.subject, purpose="evaluation", ts=utcnow(), state="granted")])
    mine_cases(flow.lake, flow.config)
    assert {case.status for case in stored_cases(flow.lake, "triage")} == {"proposed"}


def test_a_turn_that_goes_on_leaves_alone_what_was_mined_from_later_traffic(flow):
    flow = flow(**{"quality.failure_eval_share": 0.99})
    flow.react(questions(flow, 3), value=-1)
    _, _, done = split_now(flow)
    flow.react(questions(flow, 20), value=-1)
    mine_cases(flow.lake, flow.config)
    before = stored_cases(flow.lake, "triage")
    split_now(flow, done)
    assert stored_cases(flow.lake, "triage") == before


@pytest.mark.parametrize("status", ["proposed", "active", "retired"])
def test_training_sees_nothing_near_a_case_and_nothing_of_its_session(flow, tmp_path, status):
    flow = flow(**dict.fromkeys(("labels.tune_share", "labels.audit_share", "labels.gate_share"), 0.001))
    asked = "my washing machine is leaking water on the kitchen floor since yesterday evening"
    (source,) = flow.answers(1, text=asked, session_id="a", people=1)
    (near,) = flow.answers(1, text=f"{asked}!", session_id="b")
    (neighbour,) = flow.answers(1, text="and what about the warranty of it", session_id="a")
    (other,) = flow.answers(1, text="do you sell bicycles for children", session_id="c")
    everything = [source, near, neighbour, other]
    flow.react(everything, value=1)
    case = EvalCase(
        case_id="case-1", flow="triage", suite="mine", messages=[Message(role="user", content=asked)], origin="failure",
        check=Check(kind="exact", expected="x"), session_id="a", inference_id=source.inference_id, status=status,
    )  # fmt: skip
    store_cases(flow.lake, "triage", [case])
    _, artifact, done = split_now(flow)
    built = build(
        flow.lake, flow.config, snapshot=done["snapshot"]["tables"], work=tmp_path,
        consented=lambda rows, _: {row.inference_id for row in rows}, heard=lambda rows, *_: rows,
        excluded=Exclusions.model_validate(artifact["excluded"]),
    )  # fmt: skip
    assert [row.inference_id for row in built.rows()] == [other.inference_id]
    reasons = {drop.inference_id: (drop.reason, drop.detail) for drop in built.drops()}
    assert reasons[neighbour.inference_id] == ("held_out", "case_session")
    assert reasons[near.inference_id][0] == "near_evaluation"
    assert source.inference_id in reasons


def result(case, model, passed=True):
    return EvalResult(
        run_id=f"run-{model}", case_id=case.case_id, case_version=case.version, suite=case.suite, model_version=model,
        answer="x", passed=passed, score=1.0,
    )  # fmt: skip


def registered(flow, *names):
    for name in names:
        write_manifest(
            flow.lake, Manifest(kind="model", id=name, flow="triage", code_version="t", config_hash="t", seed=0)
        )


def imported(suite, n):
    return EvalCase(
        case_id=f"case-{suite}-{n}", flow="triage", suite=suite, check=Check(kind="exact", expected="x"),
        messages=[Message(role="user", content=f"{suite} {n}")], origin="import",
    )  # fmt: skip


def test_saturated_cases_are_those_of_suites_that_no_gate_needs(flow):
    flow = flow(**{"evaluation.mining.saturated_after": 2})
    cases = [imported(suite, 1) for suite in ("failures", "old-intents", "random", "golden", "own")]
    store_cases(flow.lake, "triage", cases)
    registered(flow, "v1", "v2")
    flow.append("eval_results", [result(case, model) for case in cases for model in ("v1", "v2")])
    found = saturated_cases(flow.lake, flow.config)
    assert {case.suite for case in found} == {"failures", "own"}
    ids = Choice(ids=[case.case_id for case in found])
    change_cases(flow.lake, "triage", ids, lambda case: retired_by(case, reviewer="ann"))
    assert saturated_cases(flow.lake, flow.config) == []


def test_the_regression_suite_follows_what_models_that_were_live_passed(flow):
    flow = flow()
    cases = [imported("own", n) for n in range(4)]
    store_cases(flow.lake, "triage", cases)
    assert add_suite(flow.lake, flow.config, "regression") == 0
    flow.live("v1", days_ago=9)
    flow.live("v2", days_ago=5)
    models = ("v1", "v2", "shadow")
    flow.append("eval_results", [result(case, model, passed=n > 1) for n, case in enumerate(cases) for model in models])
    assert add_suite(flow.lake, flow.config, "regression") == 2
    assert add_suite(flow.lake, flow.config, "regression") == 2
    assert {case.messages[0].content for case in load_cases(flow.lake, "triage", ["regression"])} == {"own 2", "own 3"}
    with pytest.raises(UsageError, match="safety or regression"):
        add_suite(flow.lake, flow.config, "own")


def test_suites_are_listed_with_their_use_and_frozen_versions(flow):
    flow = flow()
    count = add_suite(flow.lake, flow.config, "safety")
    assert add_suite(flow.lake, flow.config, "safety") == count
    name = freeze_suite(flow.lake, flow.config, "safety")
    rows = {row["suite"]: row for row in list_suites(flow.lake, flow.config)}
    assert (rows["safety"]["active"], rows["safety"]["frozen"]) == (count, {name: count})
    assert (rows["random"]["use"], rows["old-intents"]["use"], rows["safety"]["use"]) == ("primary", "guard", None)
    with pytest.raises(UsageError, match="frozen already"):
        freeze_suite(flow.lake, flow.config, name)
    config = flow.config.model_copy(
        update={"evaluation": flow.config.evaluation.model_copy(update={"guard_suites": [name, "golden@none"]})}
    )
    listed = {row["suite"]: row for row in list_suites(flow.lake, config)}
    assert (listed[name]["use"], listed[name]["active"], listed["golden@none"]["active"]) == ("guard", count, 0)
    items = {item["name"]: item for item in readiness(flow.lake, config)["items"]}
    assert items[f"cases of suite {name}"]["have"] == count


def test_a_case_is_shown_with_its_answer_only_while_that_may_be_judged(flow):
    flow = flow()
    rows = questions(flow, 10)
    flow.react(rows, value=-1)
    mine_cases(flow.lake, flow.config)
    case = stored_cases(flow.lake, "triage")[0]
    shown = show_case(flow.lake, flow.config, case.case_id)
    assert shown["origin"]["answer"] == "yes"
    assert shown["origin"]["feedback"] == [{"kind": "thumbs", "value": -1.0, "text": None}]
    assert shown["versions"] == [{"version": 1, "status": "proposed", "suite": "failures", "reviewer": None}]
    flow.withdraw([row for row in rows if row.inference_id == case.inference_id], purpose="evaluation")
    assert show_case(flow.lake, flow.config, case.case_id)["origin"] is None


def test_a_turn_takes_cases_without_consent_out_of_frozen_suites_even_if_a_person_had_retired_them(flow):
    flow = flow()
    rows = questions(flow)
    flow.react(rows, "correction", text="no")
    mine_cases(flow.lake, flow.config)
    name = freeze_suite(flow.lake, flow.config, "failures")
    first, second = load_cases(flow.lake, "triage", ["failures"])[:2]
    choice = Choice(ids=[first.case_id, second.case_id])
    change_cases(flow.lake, "triage", choice, lambda case: retired_by(case, reviewer="ann"))
    flow.withdraw([row for row in rows if row.inference_id == first.inference_id], purpose="evaluation")
    split_now(flow)
    served = {case.case_id for case in load_cases(flow.lake, "triage", [name])}
    assert first.case_id not in served
    assert second.case_id in served
