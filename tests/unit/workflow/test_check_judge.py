"""A judge that marks checks: not started for what was marked before, probed before it marks, one call for many."""

import contextlib
import json
from dataclasses import dataclass

import pytest
from small_evaluation import FakeAnswers, case, grid, model_folder, prepare

from flywheel.config import JudgingConfig
from flywheel.errors import UsageError
from flywheel.evaluation.cases import store_cases
from flywheel.judging.judge import Judge
from flywheel.lake.tables import open_lake
from flywheel.records import Check
from flywheel.testing import FakeOpenAI, quoted_answers
from flywheel.workflow.evaluations import check_judge
from flywheel.workflow.evaluations.evaluate import evaluate_grid
from flywheel.workflow.evaluations.judge_runs import opened

CASES = 6


class Script:
    """Marks everything 9, prefers the first of two answers or, once ``turned``, the second."""

    turned = False

    def __call__(self, body):
        if len(quoted_answers(body)) == 1:
            return json.dumps({"score": 9})
        return json.dumps({"better": "B" if self.turned else "A"})


@pytest.fixture
def judged(tmp_path):
    """A flow with a suite of cases that a judge marks, and a way to evaluate a model on it."""
    script = Script()
    with FakeOpenAI(script) as endpoint:
        config = prepare(tmp_path / "home").model_copy(
            update={"judging": JudgingConfig(backend="endpoint", model="m", url=endpoint.url)}
        )
        check = Check(kind="judge", expected="is polite", threshold=0.5)
        cases = [case(number, "polite", check=check) for number in range(CASES)]
        store_cases(open_lake(config), config.flow, cases)

        def run(name):
            if not (tmp_path / name).exists():
                model_folder(tmp_path / name, f"weights of {name}")
            asked = grid(tmp_path / name, suites=["polite"], params={})
            return evaluate_grid(config, asked, answering=FakeAnswers)

        yield config, script, endpoint, run


def test_what_was_marked_before_asks_no_judge(judged, monkeypatch):
    _, _, endpoint, run = judged
    (cell,) = run("a").cells
    assert cell.score.accuracy.mean == 1.0
    asked = len(endpoint.calls)
    monkeypatch.setattr(check_judge, "opened", lambda *args: pytest.fail("the judge was started"))
    (cell,) = run("a").cells
    assert (cell.reused, len(endpoint.calls)) == (CASES, asked)


def test_a_judge_that_changed_behind_its_name_marks_nothing_more(judged):
    _, script, endpoint, run = judged
    run("a")
    script.turned = True
    endpoint.model = "fake-2"
    with pytest.raises(UsageError, match=r"changed behind its name: .*fake-2.*judging\.revision"):
        run("b")
    script.turned, endpoint.model = False, "fake-1"
    asked = len(endpoint.calls)
    with pytest.raises(UsageError, match="marks checks no longer"):  # for good, and without another question
        run("b")
    assert len(endpoint.calls) == asked
    assert run("a").cells[0].reused == CASES


def test_all_answers_of_a_block_are_marked_in_one_call(judged, monkeypatch):
    _, _, _, run = judged
    calls = []

    @dataclass
    class Counted:
        judge: Judge

        def __getattr__(self, name):
            return getattr(self.judge, name)

        def score(self, answers, on_progress=None):
            calls.append(len(answers))
            return self.judge.score(answers, on_progress)

    @contextlib.contextmanager
    def counted(lake, config):
        with opened(lake, config) as judge:
            yield Counted(judge)

    monkeypatch.setattr(check_judge, "opened", counted)
    run("a")
    assert calls == [FakeAnswers.BLOCK, CASES - FakeAnswers.BLOCK]
