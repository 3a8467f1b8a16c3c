"""``flywheel evaluate`` in this process: what it prints, writes and exits with."""

import json
from argparse import Namespace

import pytest
import small_evaluation
import yaml
from typer.testing import CliRunner

from flywheel.cli.main import app
from flywheel.errors import EngineError, FlywheelError
from flywheel.operate import evaluation_job
from flywheel.workflow.evaluations import evaluate as module


@pytest.fixture
def run(tmp_path, monkeypatch):
    for name in "ab":
        small_evaluation.model_folder(tmp_path / name, f"weights of {name}")
    home = tmp_path / "home"
    small_evaluation.prepare(home)
    (tmp_path / "flywheel.yaml").write_text(yaml.safe_dump({"home": str(home), "evaluation": {"resamples": 200}}))
    monkeypatch.chdir(tmp_path)
    broken = {}
    monkeypatch.setattr(
        module, "Answering", lambda lake, config, endpoint: small_evaluation.FakeAnswers(lake, config, broken=broken)
    )

    def evaluate(*arguments, fail=None):
        broken.update({fail: EngineError("out of memory")} if fail else {})
        return CliRunner().invoke(app, ["evaluate", *arguments])

    return evaluate


def test_one_model_is_told_in_short_and_in_full(run):
    done = run("--model", "./a", "--suite", "golden", "--suite", "random", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert set(told["suites"]) == {"golden", "random"}
    assert told["suites"]["golden"]["n"] == small_evaluation.CASES_A_SUITE
    assert [cell["suite"] for cell in told["cells"]] == ["golden", "random"]


def test_several_models_and_parameters_as_a_table_and_a_file(run, tmp_path):
    done = run(
        "--model", "./a", "--model", "./b", "--suite", "golden", "--param", "temperature=0,0.5", "--out", "t.csv"
    )
    assert done.exit_code == 0, done.output
    assert "Right answers" in done.stdout
    assert "T 0.5" in done.stdout
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + 4


def test_a_cell_that_fails_is_shown_and_the_exit_code_is_one(run, tmp_path):
    done = run("--model", "./a", "--model", "./b", "--suite", "golden", "--out", "t.json", fail="./b")
    assert isinstance(done.exception, FlywheelError)
    assert done.exception.exit_code == 1
    assert "1 of 2 cells failed (out of memory)" in str(done.exception)
    assert [cell["reason"] for cell in json.loads((tmp_path / "t.json").read_text())["cells"]] == [
        None,
        "out of memory",
    ]


def test_the_job_writes_one_object_and_its_errors_are_sentences(run, tmp_path, capsys):
    asked = {"config": tmp_path / "flywheel.yaml", "set": [], "grid": None, "model": ["./a"], "suite": ["golden"],
             "param": None, "endpoint": None, "out": tmp_path / "t.csv", "drift": False}  # fmt: skip
    evaluation_job.run(Namespace(**asked))
    assert json.loads(capsys.readouterr().out)["suites"]["golden"]["n"] == small_evaluation.CASES_A_SUITE
    assert (tmp_path / "t.csv").exists()
    refused = [
        ({"suite": ["none"]}, "No cases in: none"),
        ({"model": None}, "no live model"),
        ({"drift": True}, "no live model"),
        ({"out": tmp_path / "t.pdf"}, "neither .csv nor .json"),
    ]
    for wrong, said in refused:
        with pytest.raises(SystemExit, match=said):
            evaluation_job.run(Namespace(**{**asked, **wrong}))


def test_drift_is_told_by_its_own_switch(run, monkeypatch):
    from flywheel.workflow.cadence import drift_check

    report = drift_check.DriftReport(version="v1", made=[], alarms=[], text="no test yet of v1")
    monkeypatch.setattr(drift_check, "check_drift", lambda config, progress: report)
    assert run("--drift").stdout == "no test yet of v1\n"
