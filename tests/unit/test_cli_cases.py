"""``flywheel cases``, in this process: what it prints, stores and refuses."""

import json

import pytest
from typer.testing import CliRunner

from flywheel.cli.main import app
from flywheel.errors import UsageError
from flywheel.evaluation.cases import load_cases, stored_cases
from flywheel.lake.tables import Lake

TEXTS = ("where is my parcel", "cancel my order", "the lamp is broken", "do you ship to Peru", "I forgot my password")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        done = CliRunner().invoke(app, list(arguments))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return invoke


@pytest.fixture
def mined(run, tmp_path):
    lines = (
        {
            "flow": "triage", "user": text, "response": "no", "consent": ["evaluation"],
            "messages": [{"role": "user", "content": text}], "feedback": [{"kind": "thumbs", "value": -1}],
        }
        for text in TEXTS
    )  # fmt: skip
    (tmp_path / "logs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run("import", "logs.jsonl")
    assert "proposals" in run("cases", "mine", "--set", "quality.failure_eval_share=0.99")
    return json.loads(run("cases", "list", "--status", "proposed", "--json"))


@pytest.fixture
def lake(tmp_path):
    return Lake(str(tmp_path / ".flywheel" / "lake"))


def test_a_person_approves_with_a_check_and_moves_to_golden(run, mined, lake):
    assert len(mined) >= 4
    first = mined[0]["case_id"]
    with pytest.raises(UsageError, match="has no check yet"):
        run("cases", "approve", first)
    with pytest.raises(UsageError, match="belong together"):
        run("cases", "approve", first, "--expected", "x")
    check = ["--check-kind", "contains", "--expected", "sorry", "--to-suite", "golden", "--slice", "delivery"]
    assert "golden active" in run("cases", "approve", first[:10], *check, "--reviewer", "ann")
    (case,) = load_cases(lake, "triage")
    assert (case.suite, case.check.expected, case.slice, case.reviewer) == ("golden", "sorry", "delivery", "ann")
    shown = run("cases", "show", first)
    assert "check: contains sorry" in shown
    assert "answered by imported: no" in shown
    assert "v2: active, golden, by ann" in shown
    frozen = run("cases", "freeze", "golden").split()[0]
    assert frozen in run("cases", "suites")
    assert [case.suite for case in load_cases(lake, "triage", [frozen])] == [frozen]


def test_a_cluster_is_approved_at_once_but_not_what_was_retired_from_it(run, mined, lake):
    cluster = mined[0]["cluster"]
    run("cases", "retire", mined[0]["case_id"])
    with pytest.raises(UsageError, match="no such case"):
        run("cases", "approve", "--cluster", cluster, "--check-kind", "exact", "--expected", "x")
    other = mined[1]["cluster"]
    run("cases", "approve", "--cluster", other, "--check-kind", "exact", "--expected", "x")
    assert {case.cluster for case in load_cases(lake, "triage")} == {other}


def test_what_was_typed_in_the_editor_is_never_lost(run, mined, lake, monkeypatch, tmp_path):
    first = mined[0]["case_id"]
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    with pytest.raises(UsageError, match=r"no \$EDITOR"):
        run("cases", "edit", first)
    monkeypatch.setenv("EDITOR", "sed -i s/contains/guess/")
    with pytest.raises(UsageError, match="What you wrote is kept") as refused:
        run("cases", "edit", first)
    kept = next((tmp_path / ".flywheel" / "run").glob("case-*.yaml"))
    assert str(kept) in str(refused.value)
    kept.write_text(kept.read_text().replace("guess", "exact").replace("expected: []", "expected: Friday"))
    run("cases", "edit", first, "--file", str(kept))
    assert not kept.exists()
    case = next(case for case in stored_cases(lake, "triage") if case.case_id == first)
    assert (case.check.kind, case.check.expected, case.status, case.version) == ("exact", "Friday", "proposed", 2)
    monkeypatch.setenv("EDITOR", "true")
    run("cases", "edit", first)
    assert max(case.version for case in stored_cases(lake, "triage")) == 2, "saved as it was: nothing changed"


def test_the_list_fits_a_terminal_and_shows_texts_as_they_are(run, mined, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("cases", "list").splitlines()
    assert len(lines) == len(mined) + 1
    assert max(map(len, lines)) <= 80
    assert all(mined[0][key][:12] in lines[1] for key in ("status", "suite"))
    assert mined[0]["case_id"].removeprefix("case-")[:8] in lines[1]
    assert run("cases", "list", "--suite", "none").strip() == "no such case"
    with pytest.raises(UsageError, match="proposed, active or retired"):
        run("cases", "list", "--status", "open")


def test_retiring_needs_a_choice_and_can_be_tried(run, mined, lake):
    with pytest.raises(UsageError, match="name the cases"):
        run("cases", "retire")
    assert "0 would be retired" in run("cases", "retire", "--saturated", "--dry-run")
    assert f"{len(mined)} would be retired" in run("cases", "retire", "--status", "proposed", "--dry-run")
    assert {case.status for case in stored_cases(lake, "triage")} == {"proposed"}


def test_our_suites_and_tasks_of_lm_eval(run, lake, tmp_path):
    assert "safety" in run("cases", "add", "safety")
    (tmp_path / "rows.jsonl").write_text('{"q": "2 + 2", "a": 4}\n{"q": "2 + 3", "a": 5}\n')
    (tmp_path / "sums.yaml").write_text("task: sums\ndataset_path: rows.jsonl\ndoc_to_text: q\ndoc_to_target: a\n")
    assert "1 cases" in run("cases", "import", "sums.yaml", "--format", "lm-eval", "--limit", "1")
    assert [case.check.expected for case in load_cases(lake, "triage", ["sums"])] == ["4"]
    with pytest.raises(UsageError, match="known: flywheel, lm-eval"):
        run("cases", "import", "sums.yaml", "--format", "csv")
