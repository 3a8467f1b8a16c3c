"""The gate through the steps of a turn, in a real lake: what made the candidate, who approved it, which look it is."""

import hashlib
import sys
import types
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
from uuid6 import uuid7

from flywheel.cli import gate as cli
from flywheel.config import dump
from flywheel.errors import UsageError
from flywheel.evaluation.cases import load_cases, store_cases
from flywheel.evaluation.run import evaluate
from flywheel.inference.generate import Completion
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import Manifest, write_manifest
from flywheel.operate.status import status
from flywheel.quality.score import ScoreResult
from flywheel.records import Decision, Inference, Message, Signal, utcnow
from flywheel.review.labels import add_labels, make_label, read_labels
from flywheel.review.splits import label_split
from flywheel.rollout.gate import Agreement
from flywheel.statistics.bootstrap import Estimate
from flywheel.telemetry import Silent
from flywheel.workflow.sweeps import sweep as sweeping
from flywheel.workflow.sweeps.records import Trial
from flywheel.workflow.sweeps.study import study
from flywheel.workflow.turns import learn, prepare
from flywheel.workflow.turns import verdict as last_steps
from flywheel.workflow.turns.approve import approve
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.looks import looks
from flywheel.workflow.turns.report.model import GateReport
from flywheel.workflow.turns.report.page import render
from flywheel.workflow.turns.reporting import report
from flywheel.workflow.turns.steps import open_turn
from flywheel.workflow.turns.turn import step_key, work_folder

RIGHT, WRONG = '{"intent": "delivery"}', '{"intent": "<script>alert(1)</script>"}'
SETTINGS = {
    "quality.min_examples": 5, "evaluation.resamples": 200, "evaluation.guard_suites": [],
    "sweep.proposals_per_trial": 5, "sweep.trials": 1, "sweep.min_tune_labels": 4, "rollout.gate.min_primary_cases": 20,
    "rollout.gate.require_shadow": False,
}  # fmt: skip


def question(number):
    """Words enough that no two questions are near duplicates."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return " ".join(digest[start : start + 4] for start in range(0, 40, 4))


def manifest(flow, kind, identity, parents=(), **data):
    config = flow.config
    write_manifest(flow.lake, Manifest(
        kind=kind, id=identity, flow=config.flow, parents=list(parents), code_version="t", config_hash="t", seed=0,
        data=data,
    ))  # fmt: skip


class Turn:
    """A turn's steps by the real functions; engines, training and Ray are stood in for."""

    def __init__(self, flow, monkeypatch, *, people=120, later=False):
        self.flow, self.config, self.lake = flow, flow.config, flow.lake
        flow.live("v1")
        rows = [
            Inference(
                inference_id=str(uuid7()), flow="triage", ts=utcnow(), subject=f"p{number}", choices=[WRONG],
                consent=["training", "evaluation"], model_version="v1", finish_reason="stop",
                messages=[Message(role="user", content=question(number))],
            )
            for number in range(people)
        ]  # fmt: skip
        flow.append("inferences", rows)
        flow.react([row for n, row in enumerate(rows) if n % 4], "correction", text=RIGHT)
        flow.react([row for n, row in enumerate(rows) if not n % 4], "correction", text=WRONG + "?")
        splits = {row.inference_id: label_split(row.subject, self.config.labels, self.config.seed) for row in rows}
        self.labels = [
            make_label(row, annotator="ada", kind="correct", correction=RIGHT, split=split)
            for row in rows
            if (split := splits[row.inference_id])
        ]
        add_labels(self.lake, [label for n, label in enumerate(self.labels) if not later or n % 3])
        self.turn = open_turn(self.lake.store, self.config)
        self.context = Context(
            self.lake, self.config, Keyring(self.config.home_path()), self.turn, work_folder(self.config, self.turn)
        )
        self.done = {}
        monkeypatch.setattr(sweeping, "search", self._search)  # without Ray Tune
        monkeypatch.setattr(last_steps, "serving", lambda *args, **kwargs: nullcontext())
        monkeypatch.setattr(last_steps.engines, "wait_ready", lambda *args: None)
        monkeypatch.setattr(last_steps, "evaluate_version", partial(evaluate, generate=self._generate))

    def step(self, name, artifact):
        self.done[name] = self.turn.write(step_key(name), artifact)
        return self.done[name]

    def until_evaluated(self, *, sabotage=lambda done: None):
        self.step("snapshot", prepare.snapshot(self.context, self.done, Silent()))
        split = prepare.split(self.context, self.done, Silent())
        sabotage(split)
        self.step("split", split)
        self.step("candidates", learn.candidates(self.context, self.done, Silent()))
        self.step("reward", {"id": "reward-none", "folds": [], "reason": "too few"})
        rows = learn.built(self.done).rows()
        signals = [
            Signal(
                inference_id=row.inference_id, signal="agreement", version="s1", value=0.1 + 0.8 * (row.target == RIGHT)
            )
            for row in rows
        ]
        self.lake.append("signals", signals, app="score", version=1, flow="triage")
        scored = ScoreResult(
            version="s1", table_version=self.lake.version("signals") or 0, rows=len(rows), reused=False
        )
        self.step("score", scored.model_dump(mode="json"))
        self.step("sweep", learn.sweep(self.context, self.done, Silent()))
        self.step("curate", learn.curate(self.context, self.done, Silent()))
        self.step("scan", {"scanned": 1, "leaks": 0})
        manifest(self.flow, "model", "v1")
        manifest(self.flow, "model", "v2", [f"dataset/{self.done['curate']['id']}", "model/v1"])
        self.step("register", {"version": "v2", "folder": "/m/v2", "run_id": None})
        self.step("evaluate", last_steps.evaluate(self.context, self.done, Silent()))
        self.step("shadow", last_steps.shadow(self.context, self.done, Silent()))
        return self

    def gate(self):
        return last_steps.gate(self.context, self.done, Silent())

    def decisions(self, action):
        return [row for row in self.lake.records("decisions", Decision) if row.action == action]

    @staticmethod
    def _search(rows, start, config, records, *, seed, progress):
        return [Trial(trial=0, outcomes=study(rows, start, config, seed=seed), seconds=0)]

    @staticmethod
    def _generate(version, conversations, **_):
        """The candidate breaks a few of those that the live model gets right, and fixes most others."""
        answers = []
        for messages in conversations:
            place = hashlib.sha256(messages[-1].content.encode()).digest()[0]
            right = place >= 20 if version == "v2" else place < 80
            answers.append(Completion(RIGHT if right else WRONG, "stop", 9, 5, 10.0))
        return answers


@pytest.fixture
def turn(flow, monkeypatch):
    def make(*, later=False, **settings):
        """``later``: every third label is not there yet."""
        return Turn(flow(**{**SETTINGS, **settings}), monkeypatch, later=later)

    return make


def reason(verdict, name):
    (found,) = [one for one in verdict["reasons"] if one["name"] == name]
    return found


def test_data_kept_apart_is_promoted_and_the_report_says_so(turn):
    made = turn().until_evaluated()
    verdict = made.gate()
    assert verdict["verdict"] == "promote", verdict["text"]
    assert set(verdict["lineage"]["used"]) == {"training", "reward", "sweep", "filter"}
    assert verdict["lineage"]["used"]["sweep"] > 0
    assert verdict["lineage"]["overlap"] == {}
    shown = report(made.config)
    assert (shown.verdict, shown.headline, shown.overlap) == ("promote", "Promoted", [])
    assert [row.role for row in shown.suites] == ["decides", "reported"]
    assert shown.regressions_total == len(made.done["evaluate"]["changed"]["random"]["newly_broken"]) + sum(
        row.newly_broken for row in shown.suites[1:]
    )
    assert shown.regressions[0].live == RIGHT
    assert shown.regressions[0].candidate == WRONG
    assert [item.ref for item in shown.ancestors][:2] == ["model/v2", f"dataset/{made.done['curate']['id']}"]
    page = render(shown)
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page


def test_a_first_turn_is_not_held_up_by_a_regression_suite_that_cannot_exist_yet(turn):
    made = turn(**{"evaluation.guard_suites": ["regression"]}).until_evaluated()
    verdict = made.gate()
    assert verdict["verdict"] == "promote", verdict["text"]
    assert "guards nothing yet: 1 model(s)" in reason(verdict, "guard:regression")["text"]
    case = load_cases(made.lake, "triage", ["random"])[0]
    lost = {"case_id": "case-lost", "suite": "regression", "origin": "regression", "status": "retired"}
    store_cases(made.lake, "triage", [case.model_copy(update=lost)])
    assert (made.gate()["verdict"], reason(made.gate(), "guard:regression")["passed"]) == ("inconclusive", None)


def test_labels_that_a_sweep_used_cannot_judge_and_the_lineage_is_shown(turn, monkeypatch):
    made = turn()
    gate_labels = read_labels(made.lake, "triage", split="gate")
    mistaken = [label.model_copy(update={"split": "tune"}) for label in gate_labels]

    def everybody_tunes(split):
        """The gate's people are scored as if their labels tuned thresholds."""
        split["excluded"]["subjects"] = dict.fromkeys(split["excluded"]["subjects"], "label_tune")

    monkeypatch.setattr(learn, "read_labels", lambda *args, **kwargs: mistaken)
    verdict = made.until_evaluated(sabotage=everybody_tunes).gate()
    found = reason(verdict, "separate_judges")
    source = made.done["sweep"]["manifest"]
    assert (verdict["verdict"], found["passed"]) == ("reject", False)
    assert f"from {source}" in found["text"]
    shared = set(verdict["lineage"]["overlap"]["sweep"])
    assert shared
    assert shared <= {label.label_id for label in gate_labels}
    made.step("gate", verdict)
    shown = report(made.config)
    (sweep,) = [one for one in shown.overlap if one.maker == "sweep"]
    assert (set(sweep.ids), sweep.sources) == (shared, [source])
    page = render(shown)
    assert all(label_id in page for label_id in shared)
    assert "its score proves nothing" in page


def test_an_answer_that_was_trained_on_cannot_judge(turn):
    made = turn()

    def nobody_is_held_out(split):
        split["excluded"] = {"subjects": {}, "inference_ids": {}, "texts": []}

    verdict = made.until_evaluated(sabotage=nobody_is_held_out).gate()
    judged = {case.inference_id for case in load_cases(made.lake, "triage", ["random"])}
    assert verdict["verdict"] == "reject"
    overlap = set(verdict["lineage"]["overlap"]["training"])
    assert overlap
    assert overlap <= judged
    assert verdict["lineage"]["sources"]["training"] == [f"dataset/{made.done['curate']['id']}"]


def test_a_parent_that_was_trained_on_judging_data_taints_its_child(turn):
    made = turn().until_evaluated()
    case = load_cases(made.lake, "triage", ["random"])[0]
    manifest(made.flow, "dataset", "dataset-old", rows=[["ex", [case.inference_id], "mac"]])
    manifest(made.flow, "model", "v0", ["dataset/dataset-old"])
    manifest(made.flow, "model", "v3", [f"dataset/{made.done['curate']['id']}", "model/v0"])
    made.done["register"] = {**made.done["register"], "version": "v3"}
    verdict = made.gate()
    assert verdict["verdict"] == "reject"
    assert verdict["lineage"]["overlap"] == {"training": [case.inference_id]}
    assert "dataset/dataset-old" in verdict["lineage"]["sources"]["training"]


def test_a_searched_filter_whose_labels_nobody_knows_is_not_trusted(turn):
    made = turn(**{"quality.filter.version": "sweep-0123456789ab", "sweep.in_turn": False}).until_evaluated()
    verdict = made.gate()
    assert verdict["verdict"] == "inconclusive"
    assert "no record of: filter" in reason(verdict, "separate_judges")["text"]


def test_a_filter_file_of_an_earlier_sweep_brings_its_labels_along(turn):
    made = turn(**{"quality.filter.version": "sweep-0123456789ab", "sweep.in_turn": False})
    label = read_labels(made.lake, "triage", split="gate")[0]
    manifest(
        made.flow,
        "filter",
        "filter-earlier",
        best={"version": "sweep-0123456789ab"},
        label_ids=[label.label_id, "label-x"],
    )
    verdict = made.until_evaluated().gate()
    assert verdict["verdict"] == "reject"
    assert verdict["lineage"]["overlap"]["filter"] == [label.label_id]
    assert verdict["lineage"]["sources"]["filter"] == ["filter/filter-earlier"]


def test_a_turn_waits_for_a_person_and_the_approval_counts_for_this_evidence_only(turn):
    made = turn(**{"rollout.gate.require_approval": True}).until_evaluated()
    verdict = made.gate()
    assert (verdict["verdict"], reason(verdict, "approval")["outcome"]) == ("continue", "wait")
    assert "flywheel approve v2" in verdict["wait"]
    assert "waits for a person" in report(made.config).sentence
    assert report(made.config).made_by.keys() == {"training", "reward", "sweep", "filter"}  # the gate left no artifact
    assert "A person must approve it" in status(made.lake, made.config)["turns"][0]["reasons"][0]
    with pytest.raises(UsageError, match="has a candidate 'v9'"):
        approve(made.config, "v9", reason="fine", actor="ada")
    with pytest.raises(UsageError, match="Say why"):
        approve(made.config, "v2", reason=" ", actor="ada")
    row = approve(made.config, "v2", reason="looked at the report", actor="ada")
    assert row.evidence == last_steps.evidence(made.done)
    approve(made.config, "v2", reason="looked at the report", actor="ada")
    assert len(made.decisions("approve")) == 1
    verdict = made.gate()
    assert (verdict["verdict"], "wait" in verdict) == ("promote", False)
    assert "ada approved" in reason(verdict, "approval")["text"]
    assert report(made.config).approved_by == "ada"
    other = {**made.done, "evaluate": {**made.done["evaluate"], "run_ids": ["eval-1", "eval-2"]}}
    assert last_steps.gate(made.context, other, Silent())["verdict"] != "promote"
    made.turn.write("finished", {"decision": "promote", "reasons": []})
    with pytest.raises(UsageError, match="not a way around the gate"):
        approve(made.config, "v2", reason="again", actor="ada")


def test_a_candidate_is_judged_once_but_the_same_look_may_be_repeated(turn):
    made = turn().until_evaluated()
    first = made.gate()
    assert made.gate()["verdict"] == first["verdict"] == "promote"
    made.done["evaluate"] = {**made.done["evaluate"], "cases": "cases-more"}
    again = made.gate()
    assert again["verdict"] == "inconclusive"
    assert "evaluation.interval=sequence" in reason(again, "one_look")["text"]
    assert [row.evidence[-1] for row in made.decisions("gate")].count("cases-more") == 1


def test_a_look_on_too_few_cases_was_none(turn):
    made = turn(**{"rollout.gate.min_primary_cases": 5_000}).until_evaluated()
    assert made.gate()["verdict"] == "continue"
    made.done["evaluate"] = {**made.done["evaluate"], "cases": "cases-more"}
    assert "one_look" not in [one["name"] for one in made.gate()["reasons"]]


def test_with_a_sequence_the_turn_waits_and_looks_again_at_more_cases(turn, monkeypatch):
    def confidence_sequence(differences, *, confidence, clusters):
        """Stands in for the real one: decides as soon as there are more cases than at first."""
        n, mean = len(differences), float(differences.mean())
        spread = 0.01 if n > first["n"] else 1.0
        return Estimate(mean, mean - spread, mean + spread, n, n)

    module = types.ModuleType("flywheel.statistics.sequences")
    module.confidence_sequence = confidence_sequence
    monkeypatch.setitem(sys.modules, "flywheel.statistics.sequences", module)
    first = {"n": 10_000}
    made = turn(
        later=True, **{"evaluation.interval": "sequence", "rollout.gate.min_primary_cases": 10}
    ).until_evaluated()
    first["n"] = made.done["evaluate"]["suites"]["random"]["n"]
    verdict = made.gate()
    assert (verdict["verdict"], reason(verdict, "primary_gain")["outcome"]) == ("continue", "wait")
    assert "run `flywheel turn` again" in verdict["wait"]
    assert made.gate()["verdict"] == "continue"  # nothing new was labelled
    assert report(made.config).suites[0].n == first["n"]
    add_labels(made.lake, made.labels)
    verdict = made.gate()
    assert verdict["verdict"] == "promote", verdict["text"]
    assert "one_look" not in [one["name"] for one in verdict["reasons"]]
    shown = report(made.config)
    assert shown.suites[0].n > first["n"]
    assert shown.evidence[-1] != made.done["evaluate"]["cases"]
    assert made.gate()["decision_id"] == verdict["decision_id"]
    (look,) = looks(made.turn)
    assert look.endswith(f"{shown.evidence[-1]}.json")


def test_a_retired_case_is_counted_and_not_shown(turn):
    made = turn().until_evaluated()
    made.gate()
    shown = report(made.config)
    gone = {row.case_id for row in shown.regressions}
    cases = [case for case in load_cases(made.lake, "triage") if case.case_id in gone]
    store_cases(made.lake, "triage", [case.model_copy(update={"status": "retired"}) for case in cases])
    later = report(made.config)
    assert later.regressions_total == shown.regressions_total
    assert gone.isdisjoint(row.case_id for row in later.regressions)


def test_audit_labels_say_whether_the_filter_still_measures(turn):
    made = turn(
        **{"rollout.gate.min_audit_agreement": 0.99, "rollout.gate.min_audit_labels": 3, "labels.audit_share": 0.2}
    )
    verdict = made.until_evaluated().gate()
    found = reason(verdict, "audit_agreement")
    assert found["measured"] is not None
    assert isinstance(last_steps._audit(made.context, made.done), Agreement)
    assert reason(verdict, "audit_labels")["passed"]


def test_there_is_no_report_without_a_verdict(turn):
    made = turn().until_evaluated()
    with pytest.raises(UsageError, match="come to a verdict"):
        report(made.config)
    with pytest.raises(UsageError, match="turn-0001 has no verdict"):
        report(made.config, "turn-0001")
    with pytest.raises(UsageError, match="no turn 'turn-0009'; it has: turn-0001"):
        report(made.config, "turn-0009")


def test_the_command_writes_the_page_and_prints_json(turn, tmp_path, capsys):
    made = turn().until_evaluated()
    made.gate()
    dump(made.config, tmp_path / "flow.yaml")
    command = partial(cli.report, "latest", config=tmp_path / "flow.yaml")
    command()
    path = Path(capsys.readouterr().out.strip())
    assert path == made.config.home_path() / "reports" / "triage" / "turn-0001.html"
    assert "Promoted" in path.read_text()
    command(out=tmp_path / "own.html", as_json=True)
    printed = capsys.readouterr()
    assert GateReport.model_validate_json(printed.out) == report(made.config, "turn-0001")
    assert (tmp_path / "own.html").read_text() == path.read_text()
