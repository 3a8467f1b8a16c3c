"""Sweeps: each cell once, whatever it was called; failures stay in their cells; consent holds cases back."""

import csv
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import small_evaluation
from rich.console import Console
from small_evaluation import CASES_A_SUITE, FakeAnswers, case, grid, model_folder, prepare

from flywheel.config import EvaluationGrid
from flywheel.errors import ConfigError, EngineError, LeaseHeldError, UsageError
from flywheel.evaluation.cases import store_cases
from flywheel.lake.manifests import list_manifests
from flywheel.lake.tables import open_lake
from flywheel.operate import evaluation_table
from flywheel.records import Consent, EvalResult, Inference, Message, utcnow
from flywheel.workflow.evaluations.evaluate import KIND, evaluate_grid
from flywheel.workflow.evaluations.grid import grid_of
from flywheel.workflow.turns.lease import EVALUATING, only_one


class Sweep:
    def __init__(self, home):
        self.config, self.answers = prepare(home), []

    def __call__(self, asked, **settings):
        def make(lake, config):
            self.answers.append(FakeAnswers(lake, config, **settings))
            return self.answers[-1]

        return evaluate_grid(self.config, asked, answering=make)

    @property
    def lake(self):
        return open_lake(self.config)


@pytest.fixture
def sweep(tmp_path):
    for name in "ab":
        model_folder(tmp_path / name, f"weights of {name}")
    return Sweep(tmp_path / "home")


def test_every_cell_has_a_score_and_every_row_its_difference_to_the_first(sweep, tmp_path):
    result = sweep(grid(tmp_path / "a", tmp_path / "b"))
    assert [(cell.row, cell.suite) for cell in result.cells] == [(r, s) for r in range(4) for s in ("golden", "random")]
    assert result.failed == []
    assert [(one.row, one.suite) for one in result.differences] == [
        (r, s) for r in (1, 2, 3) for s in ("golden", "random")
    ]
    accuracy = {(cell.row, cell.suite): cell.score.accuracy.mean for cell in result.cells}
    for one in result.differences:
        assert one.comparison.gain.mean == pytest.approx(accuracy[one.row, one.suite] - accuracy[0, one.suite])
        assert one.comparison.p_value <= one.p_adjusted <= 1
    assert len(sweep.answers[0].started) == 2, "each engine once, for all its cells"
    assert len(list_manifests(sweep.lake, KIND, "triage")) == 8
    score = result.cells[0].score
    assert score.usage.prompt_tokens == 3 * CASES_A_SUITE
    assert score.usage.cost == pytest.approx(2.0 * 2 * CASES_A_SUITE / 1000)
    assert set(score.slices) == {"intent", "language", "length"}
    assert all(part.few for part in score.slices["intent"].values())


def test_a_repeated_sweep_starts_no_engine_and_says_the_same(sweep, tmp_path):
    first = sweep(grid(tmp_path / "a", tmp_path / "b"))
    again = sweep(grid(tmp_path / "a", tmp_path / "b"))
    assert again.table() == first.table()
    assert sweep.answers[1].started == []
    assert (again.as_dict()["answered"], again.as_dict()["reused"]) == (0, 8 * CASES_A_SUITE)


def test_equal_weights_under_another_name_are_not_asked_again(sweep, tmp_path):
    first = sweep(grid(tmp_path / "a"))
    model_folder(tmp_path / "copy", "weights of a")
    copy = sweep(grid(tmp_path / "copy"))
    assert sweep.answers[1].asked == []
    assert [cell.score for cell in copy.cells] == [cell.score for cell in first.cells]


def test_equal_content_registered_under_a_version_finds_the_results(sweep, tmp_path, monkeypatch):
    from flywheel.registry import versions

    monkeypatch.setattr(versions, "track", lambda *a, **k: "run")
    monkeypatch.setattr(versions, "register_version", lambda *a, **k: "1")
    sweep(grid(tmp_path / "a"))
    version = versions.register(sweep.lake, sweep.config, folder=tmp_path / "a").version
    result = sweep(grid(version))
    assert sweep.answers[1].started == []
    assert result.rows[0].version == version
    manifests = list_manifests(sweep.lake, KIND, "triage")
    assert {cell.artifact for cell in result.cells} <= {f"{KIND}/{item.id}" for item in manifests}
    from flywheel.evaluation.run import evaluate

    turn = evaluate(sweep.lake, sweep.config, version=version, suites=["golden"], generate=None)  # as a turn calls it
    assert (turn.answered, {row.model_version for row in turn.results}) == (0, {version})


def test_other_parameters_are_other_cells_and_seeds_count_above_zero_only(sweep, tmp_path):
    params = {"temperature": [0.0, 0.5], "seed": [1, 2], "max_tokens": [8, 9]}
    result = sweep(grid(tmp_path / "a", params=params, suites=["golden"]))
    assert len(result.rows) == 2 * (1 + 2)
    assert len({cell.run_id for cell in result.cells}) == 6
    assert [result.params(row) for row in range(3)] == ["max 8", "max 8 T 0.5 seed 1", "max 8 T 0.5 seed 2"]
    assert len({result.label(row) for row in range(6)}) == 6
    assert result.label(0) == f"a ({result.rows[0].version}) max 8"
    assert len(sweep.answers[0].asked) == 6 * CASES_A_SUITE


def test_a_system_prompt_takes_the_place_of_the_cases_own():
    from flywheel.evaluation.sampling import Sampling

    own = [Message(role="system", content="own"), Message(role="user", content="hi")]
    assert Sampling(8).asked(own) == own
    assert [m.content for m in Sampling(8, system="other").asked(own)] == ["other", "hi"]
    assert Sampling(8, seed=3) == Sampling(8)
    assert Sampling(8, system="a").identity() != Sampling(8, system="b").identity()


def test_a_model_that_does_not_start_fails_its_cells_only_and_is_tried_once(sweep, tmp_path):
    broken = {str(tmp_path / "a"): EngineError("the engine of 'a' failed to start: out of memory")}
    result = sweep(grid(tmp_path / "a", tmp_path / "b"), broken=broken)
    assert [cell.row for cell in result.failed] == [0, 0, 1, 1]
    assert "out of memory" in result.failed[0].reason
    assert all(cell.score for cell in result.cells[4:])
    assert result.differences == []
    assert len(sweep.answers[0].started) == 2, "a was tried once, not once a cell"
    healed = sweep(grid(tmp_path / "a", tmp_path / "b"))
    assert healed.failed == []
    assert len(sweep.answers[1].started) == 1, "what b answered was kept"


def test_a_folder_that_cannot_be_served_fails_its_cells_with_the_reason(sweep, tmp_path):
    (tmp_path / "b" / "tokenizer.json").unlink()
    result = sweep(grid(tmp_path / "a", tmp_path / "b"))
    assert {cell.row for cell in result.failed} == {2, 3}
    assert "no tokenizer" in result.failed[0].reason
    assert result.rows[2].version == str(tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suites": ["golden", "nothing"]}, "No cases in: nothing"),
        ({"models": ["triage-v0009"]}, "neither a registered version"),
        ({"models": ["live"]}, "no live model"),
        ({"models": ["endpoint:x"]}, "--endpoint"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_asked(sweep, tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        sweep(grid(tmp_path / "a", **changes))
    assert sweep.answers == []


def test_items_that_the_machine_lost_leave_the_cell_unfinished_until_they_are_answered(sweep, tmp_path, monkeypatch):
    real = small_evaluation.answer

    def loses(version, text, temperature):
        done = real(version, text, temperature)
        return type(done)("", "error", None, None, None, error="boom") if text == "golden 3" else done

    monkeypatch.setattr(small_evaluation, "answer", loses)
    one = grid(tmp_path / "a", params={}, suites=["golden"])
    result = sweep(one)
    assert (result.cells[0].unanswered, result.cells[0].artifact) == (1, None)
    assert result.failed == result.cells
    monkeypatch.undo()
    again = sweep(one)
    assert sweep.answers[1].asked == [(again.rows[0].version, 0.0, "golden 3")]
    assert (again.failed, again.cells[0].unanswered) == ([], 0)
    assert again.cells[0].artifact


def test_a_second_sweep_at_the_same_time_is_told_who_runs_the_first(sweep, tmp_path):
    with only_one(sweep.config, EVALUATING), pytest.raises(LeaseHeldError, match="Another evaluation of the flow"):
        sweep(grid(tmp_path / "a"))


def test_two_at_once_on_two_machines_never_double_a_row(sweep, tmp_path):
    one = grid(tmp_path / "a", params={})
    other = small_evaluation.settings(tmp_path / "other", **{"lake.uri": sweep.config.lake_uri()})
    both = threading.Barrier(2)

    def run(config):
        both.wait(10)
        try:
            return evaluate_grid(config, one, answering=FakeAnswers)
        except LeaseHeldError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, (sweep.config, other)))
    assert sum(isinstance(result, LeaseHeldError) for result in results) <= 1
    rows = sweep.lake.records("eval_results", EvalResult, flow="triage")
    assert len(rows) == len({(row.run_id, row.case_id) for row in rows}) == 2 * CASES_A_SUITE


def test_only_the_teams_own_cases_and_those_with_third_party_consent_leave_the_cluster(sweep):
    ids = {name: f"0198a000-0000-7000-8000-00000000000{n}" for n, name in enumerate(("yes", "no", "later", "took"))}
    stated = {"yes": ["third_party"], "no": ["evaluation"], "later": [], "took": ["third_party"]}
    rows = [
        Inference(inference_id=ids[name], flow="triage", ts=utcnow(), subject=name, model_version="v1",
                  messages=[Message(role="user", content="x 1")], choices=["1"], consent=consent)
        for name, consent in stated.items()
    ]  # fmt: skip
    sweep.lake.append("inferences", rows, app="t", version=0)
    said = [("later", "granted"), ("took", "withdrawn"), ("person", "granted")]
    statements = [Consent(subject=who, purpose="third_party", ts=utcnow(), state=state) for who, state in said]
    sweep.lake.append("consents", statements, app="t", version=0)
    traffic = [case(n, "traffic", inference_id=key, subject=name) for n, (name, key) in enumerate(ids.items())]
    imported = [case(10, "traffic", subject="person"), case(11, "traffic", subject="nobody"), case(12, "traffic")]
    store_cases(sweep.lake, "triage", [*traffic, *imported, case(13, "private", subject="nobody")])
    asked = EvaluationGrid(
        models=["endpoint:x"], suites=["traffic", "private"], endpoint={"url": "https://api.test/v1"}
    )
    result = sweep(asked)
    assert sorted(int(text.split()[-1]) for _, _, text in sweep.answers[0].asked) == [0, 2, 10, 12]
    assert [cell.withheld for cell in result.cells] == [3, 1]
    assert "third_party" in result.cells[1].reason
    assert result.failed == [result.cells[1]]


def test_the_table_for_people_and_for_files(sweep, tmp_path):
    broken = {str(tmp_path / "b"): EngineError("no [memory]")}
    result = sweep(
        grid(tmp_path / "a", tmp_path / "b", params={"temperature": [0, 1], "system": ["=1+1"]}), broken=broken
    )
    screen = Console(width=200, file=io.StringIO())
    evaluation_table.show(result, screen, by="language")
    text = screen.file.getvalue()
    for expected in ("Right answers, %", "failed", "no [memory]", "Right answers by language", "(few)", "Holm", "cost"):
        assert expected in text
    for name in ("t.csv", "t.json"):
        evaluation_table.check_out(tmp_path / name)
        evaluation_table.write_table(result, tmp_path / name)
    lines = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert len(lines) == len(result.cells)
    assert float(lines[0]["accuracy"]) == result.cells[0].score.accuracy.mean
    assert lines[-1]["reason"] == "no [memory]"
    assert json.loads((tmp_path / "t.json").read_text()) == json.loads(json.dumps(result.table()))
    for bad in (tmp_path / "t.html", tmp_path / "no" / "t.csv"):
        with pytest.raises(UsageError):
            evaluation_table.check_out(bad)


def test_one_row_is_told_in_short_as_well(sweep, tmp_path):
    told = sweep(grid(tmp_path / "a", params={})).as_dict()
    assert set(told["suites"]) == {"golden", "random"}
    assert (told["model"], told["failed"], told["answered"]) == (told["rows"][0]["model"], 0, 2 * CASES_A_SUITE)
    assert told["suites"]["golden"]["interval"][0] <= told["suites"]["golden"]["accuracy"]
    assert "suites" not in sweep(grid(tmp_path / "a", tmp_path / "b", params={})).as_dict()
    json.dumps(told)


def test_a_grid_from_the_command_line_a_file_or_both(tmp_path):
    said = grid_of(models=["a", "b"], suites=["s"], params=["temperature=0,0.7", "seed=1", "seed=2", "system=a, b"])
    assert (said.models, said.params.temperature, said.params.seed) == (["a", "b"], [0, 0.7], [1, 2])
    assert said.params.system == ["a, b"]
    file = tmp_path / "grid.yaml"
    file.write_text("models: [live]\nsuites: [random]\nparams: {seed: [1, 2, 3]}\n")
    both = grid_of(file, suites=["golden"], params=["seed=9"], endpoint="https://h/v1", endpoint_key="KEY")
    assert (both.models, both.suites, both.params.seed) == (["live"], ["golden"], [9])
    assert (both.endpoint.url, both.endpoint.key_env) == ("https://h/v1", "KEY")
    for wrong in (["heat=1"], ["temperature"], ["temperature=warm"]):
        with pytest.raises(ConfigError):
            grid_of(models=["a"], suites=["s"], params=wrong)
    with pytest.raises(UsageError, match="at least one --model"):
        grid_of(suites=["s"])
