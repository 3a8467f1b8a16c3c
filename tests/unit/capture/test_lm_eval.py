"""lm-eval tasks as cases: what is read marks as the task would, what is not is refused by name."""

import json

import pytest
import yaml

from flywheel.capture.importer import import_task
from flywheel.capture.readers.lm_eval import Task
from flywheel.errors import UsageError
from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.checks import run_check

TASK = {
    "task": "capitals", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "capitals.jsonl"}},
    "output_type": "generate_until", "test_split": "test", "doc_to_text": "Capital of {{country}}?",
    "doc_to_target": "capital", "metric_list": [{"metric": "exact_match", "aggregation": "mean"}],
}  # fmt: skip
ROWS = [{"country": "Italy", "capital": "Rome"}, {"country": "Peru", "capital": "Lima"}, {"country": "Oz"}]


@pytest.fixture
def task(tmp_path):
    def write(rows=ROWS, name="task.yaml", **changes):
        (tmp_path / "capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        path = tmp_path / name
        path.write_text(yaml.safe_dump({key: value for key, value in {**TASK, **changes}.items() if value is not None}))
        return path

    return write


def check(path, row=ROWS[0]):
    return Task(path).case(row, "s").check


def passes(check, *answers):
    return [run_check(check, answer).passed for answer in answers]


def test_documents_become_cases_once_and_bad_ones_are_listed(pipeline, task):
    report = import_task(pipeline.lake, pipeline.config, task())
    assert (report.cases, report.rejected, report.files[0].format) == (2, 1, "lm-eval")
    assert report.first_rejects[0].field == "doc_to_target"
    cases = load_cases(pipeline.lake, "triage", ["capitals"])
    assert {(case.messages[0].content, case.check.expected, case.origin) for case in cases} == {
        ("Capital of Italy?", "Rome", "import"), ("Capital of Peru?", "Lima", "import"),
    }  # fmt: skip
    assert import_task(pipeline.lake, pipeline.config, task()).duplicates == 2


def test_a_limit_and_a_suite_of_ones_own(pipeline, task):
    report = import_task(pipeline.lake, pipeline.config, task(), suite="golden", limit=1, strict=True)
    assert (report.lines, report.cases) == (1, 1)
    assert [case.suite for case in load_cases(pipeline.lake, "triage")] == ["golden"]


def test_the_check_follows_metric_and_filter(task):
    plain = check(task())
    assert passes(plain, "Rome", " Rome\n", "rome", "Rome it is") == [True, True, False, False]
    folded = check(task(metric_list=[{"metric": "exact_match", "ignore_case": True}]))
    assert passes(folded, "ROME.", "Lima") == [True, False]
    numbers = task(
        rows=[{"q": "x", "a": "so 1,000\n#### 1,000"}], doc_to_text="q", doc_to_target="a",
        metric_list=[{"metric": "exact_match", "regexes_to_ignore": [",", "(?s).*#### "]}],
        filter_list=[{"name": "strict", "filter": [
            {"function": "regex", "regex_pattern": r"#### (\-?[0-9\.\,]+)"}, {"function": "take_first"}]}],
    )  # fmt: skip
    answer = check(numbers, {"q": "x", "a": "so 1,000\n#### 1,000"})
    assert passes(answer, "hm\n#### 1000", "#### 1000.", "#### 10005", "#### 1000.5", "1000") == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_templates_may_include_describe_and_replace(task, tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**TASK, "description": "Answer in one word.\n\n"}))
    child = tmp_path / "child.yaml"
    child.write_text(
        "include: base.yaml\ntask: child\ndoc_to_text: \"{{country | regex_replace('a', 'o') | upper}}?\"\n"
    )
    task()
    case = Task(child).case(ROWS[0], "s")
    assert (case.messages[0].content, Task(child).name) == ("Answer in one word.\n\nITOLY?", "child")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output_type": "multiple_choice"}, "only generate_until"),
        ({"doc_to_target": None}, "no doc_to_text and doc_to_target"),
        ({"process_docs": "x"}, "process_docs"),
        ({"use_prompt": "promptsource:*"}, "promptsource"),
        ({"num_fewshot": 5}, "num_fewshot: 0"),
        ({"metric_list": [{"metric": "bleu"}]}, "its metric is bleu"),
        ({"filter_list": [{"filter": [{"function": "majority_vote"}]}]}, "majority_vote"),
        ({"filter_list": [{"filter": [{"function": "regex", "regex_pattern": "(a)(b)"}]}]}, "exactly one group"),
        ({"filter_list": [{"filter": [{"function": "regex", "group_select": -1}]}]}, "first match"),
    ],
)
def test_what_would_mark_in_another_way_is_refused(task, changes, said):
    with pytest.raises(UsageError, match=said):
        Task(task(**changes))


def test_data_elsewhere_python_and_names_are_refused(task, tmp_path):
    with pytest.raises(UsageError, match="save the split as JSON lines"):
        Task(task(dataset_path="openai/gsm8k", dataset_kwargs=None)).data_file()
    with pytest.raises(UsageError, match="a name alone is not looked up"):
        Task(tmp_path / "gsm8k")
    code = tmp_path / "code.yaml"
    code.write_text(yaml.safe_dump(TASK) + "doc_to_text: !function utils.prompt\n")
    with pytest.raises(UsageError, match="!function"):
        Task(code)
    code.write_text("[")
    with pytest.raises(UsageError, match="no YAML"):
        Task(code)


def test_a_template_cannot_reach_out(task):
    path = task(doc_to_text="{{ ''.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(Exception, match="unsafe"):
        Task(path).case(ROWS[0], "s")


def test_the_file_may_be_named_itself(task, tmp_path):
    path = task(dataset_path="capitals.jsonl", dataset_kwargs=None)
    assert Task(path).data_file() == tmp_path / "capitals.jsonl"
