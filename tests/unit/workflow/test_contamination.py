"""Contamination over a lake and over files: what a turn refuses, what the gate sees, what the command reports."""

import gzip
import json

import pytest
from typer.testing import CliRunner

from flywheel.cli.main import app
from flywheel.config import FlywheelConfig, GatePolicy, GuardPolicy, RolloutConfig
from flywheel.errors import ContaminationError, InputError, NotFoundInLakeError, UsageError
from flywheel.evaluation.cases import store_cases
from flywheel.lake.manifests import Manifest, write_manifest
from flywheel.lake.tables import open_lake
from flywheel.records import Check, EvalCase, EvalResult, Example, Message
from flywheel.workflow.evaluations import contamination
from flywheel.workflow.evaluations.contamination import contamination_at_gate, find_contamination, refuse_contaminated

LONG = "my washing machine is leaking water on the kitchen floor since yesterday evening"


@pytest.fixture
def config(tmp_path):
    return FlywheelConfig(home=tmp_path / "home")


@pytest.fixture
def lake(config):
    return open_lake(config)


def example(name, text):
    return Example(
        example_id=name, flow="triage", messages=[Message(role="user", content=text)], target="ok", subject="s",
        inference_ids=[f"i-{name}"], origin="liked",
    )  # fmt: skip


def add_case(lake, suite, text):
    store_cases(lake, "triage", [EvalCase(
        case_id=f"{suite}-1", flow="triage", suite=suite, messages=[Message(role="user", content=text)],
        check=Check(kind="normalised", expected="ok"), origin="import",
    )])  # fmt: skip


def add_dataset(lake, name, *examples):
    lake.append("examples", list(examples), app=name, version=0, flow="triage")
    rows = [[row.example_id, row.inference_ids] for row in examples]
    write_manifest(lake, Manifest(
        kind="dataset", id=name, flow="triage", code_version="0", config_hash="0", seed=0, data={"rows": rows},
    ))  # fmt: skip
    return list(examples)


def answered(lake, number, suite):
    row = EvalResult(run_id="eval-1", case_id=f"{suite}-1", case_version=1, suite=suite, model_version="m", answer="ok",
                     passed=True, score=1.0)  # fmt: skip
    lake.append("eval_results", [row], app="eval-1", version=number, flow="triage")


def test_a_case_that_decides_stops_the_turn_and_the_gate(lake, config):
    examples = add_dataset(lake, "dataset-1", example("e1", f"{LONG}!"), example("e2", "where is my order"))
    refuse_contaminated(lake, config, "dataset-1", examples)
    assert contamination_at_gate(lake, config, "dataset-1", "eval-1") == 0
    add_case(lake, "failures", LONG)
    answered(lake, 0, "failures")
    refuse_contaminated(lake, config, "dataset-1", examples)
    assert contamination_at_gate(lake, config, "dataset-1", "eval-1") == 0, "this suite decides nothing"
    add_case(lake, "random", LONG)
    with pytest.raises(ContaminationError, match=r"1 examples of dataset-1 .*\(e1\)") as refused:
        refuse_contaminated(lake, config, "dataset-1", examples)
    assert "washing" not in str(refused.value)
    assert contamination_at_gate(lake, config, "dataset-1", "eval-1") == 0, "the verdict does not rest on it"
    answered(lake, 1, "random")
    assert contamination_at_gate(lake, config, "dataset-1", "eval-1") == 1


def test_a_suite_that_only_the_policy_names_decides_too(lake, config):
    config = config.model_copy(
        update={"rollout": RolloutConfig(gate=GatePolicy(guards={"safety": GuardPolicy(min_cases=1)}))}
    )
    examples = add_dataset(lake, "dataset-1", example("e1", LONG))
    add_case(lake, "safety", LONG)
    with pytest.raises(ContaminationError):
        refuse_contaminated(lake, config, "dataset-1", examples)


def test_what_is_gone_counts_as_not_measured(lake, config):
    assert contamination_at_gate(lake, config, "dataset-gone", "eval-1") is None


def test_every_dataset_against_every_suite(lake, config):
    with pytest.raises(UsageError, match="no cases"):
        find_contamination(config)
    add_case(lake, "random", LONG)
    add_case(lake, "failures", "something that nobody else says")
    with pytest.raises(UsageError, match="no dataset"):
        find_contamination(config)
    add_dataset(lake, "dataset-1", example("e1", LONG.upper()), example("e2", "where is my order"))
    add_dataset(lake, "dataset-2", example("e3", "a clean row"))
    report = find_contamination(config)
    assert not report.clean
    table = {(pair.dataset, pair.suite): (pair.rows, pair.cases, pair.contaminated_rows) for pair in report.pairs}
    assert table == {
        ("dataset-1", "random"): (2, 1, 1), ("dataset-1", "failures"): (2, 1, 0),
        ("dataset-2", "random"): (1, 1, 0), ("dataset-2", "failures"): (1, 1, 0),
    }  # fmt: skip
    assert find_contamination(config, datasets=["dataset-1"], suites=["failures"]).clean
    with pytest.raises(UsageError, match="'nothing' has no cases"):
        find_contamination(config, suites=["nothing"])
    with pytest.raises(NotFoundInLakeError):
        find_contamination(config, datasets=["dataset-9"])


def write(path, *rows):
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return str(path)


def test_files_in_their_shapes_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = write(
        tmp_path / "rows.jsonl.gz",
        {"text": LONG},
        {"prompt": "clean", "response": "fine"},
        {"prompt": [{"role": "human", "content": LONG}]},
        {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": f"So {LONG}, you say?"}]},
    )
    cases = write(
        tmp_path / "cases.jsonl.gz",
        {"turns": [LONG, "And now in one word, as briefly as you can say it"], "suite": "bench"},
        {"prompt": "unlike any", "check": {"kind": "exact", "expected": "yes"}},
    )
    command = ["cases", "contamination", "--dataset", rows, "--suite", cases, "--json"]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 3, run.output
    found = json.loads(run.stdout)
    assert found["clean"] is False
    by_suite = {pair["suite"]: pair for pair in found["pairs"]}
    assert [finding["row_id"] for finding in by_suite["bench"]["findings"]] == [f"rows.jsonl.gz:{n}" for n in (1, 3, 4)]
    assert by_suite["cases.jsonl.gz"]["findings"] == []
    assert "washing" not in run.stdout
    clean = CliRunner().invoke(app, [*command[:-2], write(tmp_path / "other.gz", {"text": "nothing alike"})])
    assert clean.exit_code == 0
    assert "other.gz (1 cases): clean" in clean.stdout


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "must be an object"),
        ('{"colour": 1}', "no messages, prompt, turns or text"),
        ('{"messages": []}', "at least one message"),
        ('{"messages": [{"role": "king", "content": "x"}]}', "Input should be"),
        ('{"text": "x", "check": {"kind": "magic"}}', "Input should be"),
    ],
)
def test_a_line_without_text_is_named(config, tmp_path, line, message):
    path = tmp_path / "cases.jsonl"
    path.write_text(f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(InputError, match=f"line 2.*{message}"):
        find_contamination(config, datasets=[str(path)], suites=[str(path)])


def test_the_same_rows_and_cases_are_compared_once_and_others_anew(lake, config, monkeypatch):
    compared = []

    class Counted(contamination.Suites):
        def find(self, rows):
            compared.append(1)
            return super().find(rows)

    monkeypatch.setattr(contamination, "Suites", Counted)
    examples = add_dataset(lake, "dataset-once", example("e-once", LONG + " once"), example("e-two", "another thing"))
    add_case(lake, "random", LONG + " once")
    answered(lake, 0, "random")
    for _ in range(3):
        with pytest.raises(ContaminationError):
            refuse_contaminated(lake, config, "dataset-once", examples)
        assert contamination_at_gate(lake, config, "dataset-once", "eval-1") == 1
    assert len(compared) == 1
    refuse_contaminated(lake, config, "dataset-once", examples[1:])
    assert len(compared) == 2
