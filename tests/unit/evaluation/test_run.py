"""evaluate: every item kept, nothing answered twice, nothing counted twice."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import flywheel.evaluation.run as run_module
from flywheel.config import EvaluationConfig, FlywheelConfig
from flywheel.errors import EngineError, UsageError
from flywheel.evaluation.cases import load_cases, store_cases
from flywheel.evaluation.frozen import freeze
from flywheel.evaluation.run import evaluate
from flywheel.evaluation.sampling import Sampling
from flywheel.inference.generate import Completion
from flywheel.lake.tables import Lake
from flywheel.records import Check, EvalCase, EvalResult, Message

CONFIG = FlywheelConfig(evaluation=EvaluationConfig(resamples=200))


class Engine:
    """Answers with the last word of the question; fails where told to; counts what it was asked."""

    def __init__(self, *, fail: set[str] = frozenset(), error: str = "boom") -> None:
        self.asked: list[str] = []
        self.fail = fail
        self.error = error

    def __call__(
        self, version, conversations, *, max_tokens, temperature=1.0, concurrency=1, timeout_s=1, on_progress=None
    ):
        assert temperature == 0
        words = [conversation[-1].content.split()[-1] for conversation in conversations]
        self.asked += words
        if on_progress:
            on_progress(len(words))
        return [self.answer(word) for word in words]

    def answer(self, word: str) -> Completion:
        if word in self.fail:
            return Completion("", "error", None, None, None, error=self.error)
        return Completion(word, "stop", 3, 1, 5.0)


def case(n: int, suite: str = "random", right: bool = True, **changes) -> EvalCase:
    fields = {
        "case_id": f"{suite}-{n}", "flow": "triage", "suite": suite, "origin": "random", "subject": f"s{n}",
        "messages": [Message(role="user", content=f"say w{n}")],
        "check": Check(kind="exact", expected=f"w{n}" if right else "no"),
    }  # fmt: skip
    return EvalCase(**{**fields, **changes})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def filled(lake: Lake) -> Lake:
    store_cases(
        lake, "triage", [case(n, right=n % 4 != 0) for n in range(20)] + [case(n, "old-intents") for n in range(5)]
    )
    return lake


def rows(lake: Lake) -> list[EvalResult]:
    return lake.records("eval_results", EvalResult, flow="triage")


def test_marks_every_case_and_keeps_every_item(filled: Lake):
    progress = []
    done = evaluate(
        filled, CONFIG, version="m1", suites=["random", "old-intents"], generate=Engine(),
        on_progress=lambda *now: progress.append(now),
    )  # fmt: skip
    assert (done.answered, done.reused, done.missing_suites) == (25, 0, [])
    assert (done.suites["random"].n, done.suites["random"].passed) == (20, 15)
    assert done.suites["old-intents"].accuracy.mean == 1
    assert done.suites["random"].accuracy.low < 0.75 < done.suites["random"].accuracy.high
    assert progress == [(25, 25)]
    assert sorted(row.case_id for row in rows(filled)) == sorted(row.case_id for row in done.results)
    assert filled.version("eval_results") <= 1, "one commit for all of them"


def test_what_is_answered_is_not_answered_again(filled: Lake):
    first = evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine())
    engine = Engine()
    again = evaluate(filled, CONFIG, version="m1", suites=["random", "old-intents"], generate=engine)
    assert len(engine.asked) == 5
    assert (again.reused, again.answered) == (20, 5)
    assert again.run_id == first.run_id
    third = evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine())
    assert third.results == first.results
    assert len(rows(filled)) == 25


def test_another_model_other_parameters_or_a_new_version_of_a_case_are_answered(filled: Lake):
    evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine())
    longer = CONFIG.model_copy(update={"evaluation": EvaluationConfig(max_tokens=99, resamples=200)})
    for config, version in ((CONFIG, "m2"), (longer, "m1")):
        engine = Engine()
        evaluate(filled, config, version=version, suites=["random"], generate=engine)
        assert len(engine.asked) == 20
    store_cases(filled, "triage", [case(3, right=False)])
    engine = Engine()
    done = evaluate(filled, CONFIG, version="m1", suites=["random"], generate=engine)
    assert engine.asked == ["w3"]
    assert done.suites["random"].passed == 14


def test_equal_content_is_found_under_any_name_and_bears_the_name_asked_for(filled: Lake):
    first = evaluate(filled, CONFIG, version="m1", suites=["random"], content="w", generate=Engine())
    engine = Engine()
    again = evaluate(filled, CONFIG, version="m2", suites=["random"], content="w", generate=engine)
    assert (engine.asked, again.run_id) == ([], first.run_id)
    assert {row.model_version for row in again.results} == {"m2"}
    assert len(rows(filled)) == 20


def test_sampling_decides_what_is_sent_and_what_is_found(filled: Lake):
    seen = []

    def generate(version, conversations, **settings):
        seen.append((conversations[0][0].content, {k: v for k, v in settings.items() if k in {"temperature", "seed"}}))
        return [Completion("x", "stop", 3, 1, 5.0) for _ in conversations]

    for sampling in (
        Sampling(48),
        Sampling(48, 0.7, seed=2),
        Sampling(48, 0.7, seed=3),
        Sampling(48, system="Be brief."),
    ):
        for _ in range(2):
            evaluate(filled, CONFIG, version="m1", suites=["old-intents"], sampling=sampling, generate=generate)
    assert seen == [
        ("say w0", {"temperature": 0.0}),
        ("say w0", {"temperature": 0.7, "seed": 2}),
        ("say w0", {"temperature": 0.7, "seed": 3}),
        ("Be brief.", {"temperature": 0.0}),
    ]


def test_an_item_says_why_it_failed_what_it_cost_and_which_groups_it_belongs_to(filled: Lake):
    store_cases(filled, "triage", [case(0, right=False, slice="refund", slices={"language": "de"})])
    done = evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine())
    [row] = [row for row in rows(filled) if row.case_id == "random-0"]
    assert (row.prompt_tokens, row.completion_tokens, row.slice) == (3, 1, "refund")
    assert row.slices == {"language": "de", "length": "short"}
    assert row.detail
    assert next(item for item in done.results if item.passed).detail is None


def test_failed_items_count_against_the_model_and_are_tried_again(filled: Lake):
    done = evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine(fail={"w1", "w2"}))
    assert (done.suites["random"].errors, done.suites["random"].passed) == (2, 13)
    engine = Engine()
    again = evaluate(filled, CONFIG, version="m1", suites=["random"], generate=engine)
    assert sorted(engine.asked) == ["w1", "w2"]
    assert (again.suites["random"].errors, again.suites["random"].passed) == (0, 15)


def test_an_engine_that_is_gone_stores_nothing(filled: Lake):
    with pytest.raises(EngineError, match=r"none of 20 cases \(boom\)"):
        evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine(fail={f"w{n}" for n in range(20)}))
    assert rows(filled) == []


def test_a_killed_run_goes_on_where_it_stopped(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_module, "BLOCK", 8)

    class Dies(Engine):
        def __call__(self, *args, **kwargs):
            if len(self.asked) >= 16:
                raise KeyboardInterrupt
            return super().__call__(*args, **kwargs)

    with pytest.raises(KeyboardInterrupt):
        evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Dies())
    engine = Engine()
    done = evaluate(filled, CONFIG, version="m1", suites=["random"], generate=engine)
    assert (len(engine.asked), done.reused, done.answered) == (4, 16, 4)


def test_two_at_once_leave_each_item_once(filled: Lake):
    with ThreadPoolExecutor(2) as pool:
        runs = list(
            pool.map(lambda _: evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine()), range(2))
        )
    assert runs[0].results == runs[1].results
    assert len(rows(filled)) == 20


def test_rows_that_came_while_this_run_was_asking_are_not_stored_again(filled: Lake):
    class Slow(Engine):
        def __call__(self, *args, **kwargs):
            other.append(evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine()))
            return super().__call__(*args, **kwargs)

    other = []
    slow = evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Slow())
    assert len(rows(filled)) == 20
    assert slow.results == other[0].results


def test_cases_of_the_callers_own_never_mix_with_stored_ones(filled: Lake):
    evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine())
    raw = [case(n, messages=[Message(role="user", content=f"raw w{n}")]) for n in range(3)]
    engine = Engine()
    done = evaluate(filled, CONFIG, version="m1", suites=[], cases=raw, generate=engine)
    assert (len(engine.asked), done.suites["random"].n) == (3, 3)
    assert evaluate(filled, CONFIG, version="m1", suites=[], cases=raw, generate=Engine()).reused == 3
    other = [item.model_copy(update={"messages": [Message(role="user", content="x")]}) for item in raw]
    assert evaluate(filled, CONFIG, version="m1", suites=[], cases=other, generate=Engine()).reused == 0


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "there are no cases in random"),
        ([case(1), case(1)], "share an id"),
        ([case(1, check=Check(kind="regex", expected="("))], "case random-1 of suite 'random'"),
    ],
)
def test_bad_cases_are_refused_before_anything_runs(lake: Lake, cases, message):
    engine = Engine()
    with pytest.raises(UsageError, match=message):
        evaluate(lake, CONFIG, version="m1", suites=["random"], cases=cases, generate=engine)
    assert engine.asked == []


def test_a_suite_without_cases_is_named(filled: Lake):
    done = evaluate(filled, CONFIG, version="m1", suites=["random", "failures"], generate=Engine())
    assert done.missing_suites == ["failures"]


def test_a_refused_case_is_a_final_wrong_answer(filled):
    engine = Engine(fail={"w7"}, error="refused: the prompt is too long")
    first = evaluate(filled, CONFIG, version="v1", suites=["random"], generate=engine)
    again = evaluate(filled, CONFIG, version="v1", suites=["random"], generate=engine)
    assert len(engine.asked) == 20  # a second run asks nothing, and one such case alone is no broken engine
    assert first.suites["random"].errors == again.suites["random"].errors == 1
    assert first.suites["random"].passed == again.suites["random"].passed == 14


def test_a_frozen_suite_is_answered_by_what_was_answered_before_under_its_own_name(filled: Lake):
    evaluate(filled, CONFIG, version="m1", suites=["random"], generate=Engine())
    now = load_cases(filled, "triage", ["random"])
    name = freeze(filled, now, flow="triage", suite="random", code_version="t")
    store_cases(filled, "triage", [case(3, right=False)])
    engine = Engine()
    done = evaluate(filled, CONFIG, version="m1", suites=[name], generate=engine)
    assert (engine.asked, done.reused, done.suites[name].passed) == ([], 20, 15)
    assert {row.suite for row in done.results} == {name}
