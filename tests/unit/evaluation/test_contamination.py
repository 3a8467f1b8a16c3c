"""Contamination: which rows and cases are paired, what a finding tells, and what the shared data holds."""

import gzip
import json
from pathlib import Path

import pytest

from flywheel.evaluation.contamination import BLOCK, Row, Suites
from flywheel.records import Check, EvalCase, Message
from flywheel.text.minhash import jaccard_of, shingles
from flywheel.text.normalise import normalise
from flywheel.text.overlap import NEAR, conversation_texts

SHARED = Path(__file__).resolve().parents[3] / "../shared/data"
QUESTION = "How many eggs does Janet sell at the farmers market if her ducks lay sixteen a day?"
ANSWER = "She sells nine of them for two dollars each, which makes eighteen dollars every single day of the week."


def case(case_id, *turns, suite="s", check=None):
    messages = [Message(role="user", content=turn) for turn in turns]
    return EvalCase(
        case_id=str(case_id), flow="f", suite=suite, messages=messages, origin="import",
        check=check or Check(kind="judge", expected="is right"),
    )  # fmt: skip


def row(row_id, *turns, answer=None):
    messages = [Message(role="user", content=turn) for turn in turns]
    return Row(str(row_id), conversation_texts(messages, answer))


def found(cases, *rows):
    return {(finding.row_id, finding.case_id, finding.kind) for finding in Suites(cases).find(rows)}


def test_a_finding_names_ids_and_lengths_and_no_text():
    (finding,) = Suites([case("c", QUESTION)]).find([row("r", QUESTION.upper(), answer="No idea")])
    assert finding.model_dump() == {
        "row_id": "r", "case_id": "c", "suite": "s", "kind": "exact", "part": "prompt", "score": 1.0,
        "row_length": len(QUESTION), "case_length": len(QUESTION),
    }  # fmt: skip


def test_an_answer_that_was_learnt_is_found_where_the_case_expects_a_text():
    expected = case("c", "Janet?", check=Check(kind="normalised", expected=ANSWER))
    criterion = case("j", "Janet?", check=Check(kind="judge", expected=ANSWER))
    pattern = case("p", "Janet?", check=Check(kind="regex", expected=ANSWER))
    (finding,) = Suites([expected, criterion, pattern]).find([row("r", "What about Janet", answer=ANSWER)])
    assert (finding.case_id, finding.part) == ("c", "prompt+answer")
    rows = [row("r", "What about Janet"), row("s", "Janet")]
    assert [found.row_id for found in Suites([expected], answers=False).find(rows)] == ["s"]


def test_turns_of_conversations():
    cases = [case("two", QUESTION, "thanks"), case("one", "thanks")]
    assert found(cases, row("r", QUESTION)) == {("r", "two", "exact")}
    assert found(cases, row("r", "thanks")) == {("r", "one", "exact")}
    assert found(cases, row("r", "Something else", QUESTION, "bye")) == {("r", "two", "exact")}


def test_rows_stream_in_order_over_blocks_and_suites_stay_apart():
    cases = [case("c", QUESTION), case("c", QUESTION, suite="other")]
    rows = (row(n, QUESTION if n % BLOCK == 0 else f"row {n}") for n in range(2 * BLOCK + 1))
    pairs = [(finding.row_id, finding.suite) for finding in Suites(cases).find(rows)]
    assert pairs == [(str(n), suite) for n in (0, BLOCK, 2 * BLOCK) for suite in ("s", "other")]


def test_no_cases_no_findings():
    assert list(Suites([]).find([row("r", QUESTION)])) == []
    assert list(Suites([case("c", QUESTION)]).find([])) == []


# --- what is planted in the shared data; ground truth by comparing every pair without any index ---

needs_data = pytest.mark.skipif(not SHARED.exists(), reason=f"the shared data sets are not at {SHARED}")


def shared(name):
    with gzip.open(SHARED / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def instructions(*sources):
    rows = shared("instructions")
    return [(f"{item['source']}/{item['split']}/{item['index']}", [item["prompt"]]) for item in rows
            if item["source"] in sources]  # fmt: skip


def eval_prompts(*sets):
    return [(f"{item['set']}/{item['id']}", item["turns"]) for item in shared("eval_prompts") if item["set"] in sets]


def prompts(name, field="prompt"):
    return [(f"{name}/{n}", [item[field]]) for n, item in enumerate(shared(name))]


def equal_pairs(rows, cases):
    forms = {text: normalise(text) for _, turns in rows + cases for text in turns}
    return {
        (row_id, case_id)
        for row_id, turns in rows for case_id, asked in cases
        if {forms[turn] for turn in turns} & {forms[turn] for turn in asked}
    }  # fmt: skip


def detected(rows, cases):
    suites = Suites([case(case_id, *turns) for case_id, turns in cases])
    findings = suites.find(row(name, *turns) for name, turns in rows)
    return {(finding.row_id, finding.case_id): finding.kind for finding in findings}


def distinct(rows):
    return list({normalise(" ".join(turns)): (name, turns) for name, turns in rows}.values())


PLANTED = {
    # dataset, suite, equal pairs at the least
    "polite pairs and the instructions they were made of": (
        lambda: prompts("polite_preferences")[:250], lambda: distinct(instructions("llms-from-scratch"))[:700], 100,
    ),
    "comparisons whose prompts are self-instruct's test": (
        lambda: distinct(prompts("pandalm_preferences")), lambda: instructions("self-instruct-user"), 168,
    ),
    "two benchmarks that share tasks": (
        lambda: eval_prompts("vicuna_bench"), lambda: eval_prompts("mt_bench"), 2,
    ),
    "a prompt of both files": (
        lambda: instructions("llms-from-scratch", "self-instruct-seed", "self-instruct-user"),
        lambda: eval_prompts("oasst_prompt_lottery", "vicuna_bench", "mt_bench")[:200], 1,
    ),
}  # fmt: skip


@needs_data
@pytest.mark.parametrize("name", PLANTED)
def test_planted_overlaps_are_all_found(name):
    make_rows, make_cases, at_least = PLANTED[name]
    rows, cases = make_rows(), make_cases()
    truth = equal_pairs(rows, cases)
    assert len(truth) >= at_least
    assert {pair for pair, kind in detected(rows, cases).items() if kind == "exact"} == truth


@needs_data
def test_near_duplicates_of_the_shared_data_are_all_found():
    rows, cases = prompts("polite_preferences")[:150], distinct(instructions("llms-from-scratch"))[:500]
    sets = {text: shingles(text) for _, turns in rows + cases for text in turns}
    truth = {
        (row_id, case_id)
        for row_id, (text,) in rows for case_id, (asked,) in cases
        if jaccard_of(sets[text], sets[asked]) >= NEAR
    }  # fmt: skip
    pairs = detected(rows, cases)
    assert len(truth) > len(equal_pairs(rows, cases)) > 0, "there are near ones beside equal ones"
    assert truth == {pair for pair, kind in pairs.items() if kind != "ngram"}


@needs_data
@pytest.mark.parametrize(
    ("rows", "cases"),
    [
        (lambda: prompts("banking77_train", "text")[:1_500], lambda: instructions("gsm8k")[-500:]),
        (lambda: instructions("gsm8k")[:500], lambda: eval_prompts("humaneval", "oasst_prompt_lottery")),
        (lambda: instructions("gsm8k")[:500], lambda: prompts("banking77_train", "text")[:1_500]),
    ],
)
def test_clean_pairs_raise_no_alarm(rows, cases):
    assert detected(rows(), cases()) == {}
