"""Two imports at once: what one brings, the other does not bring again."""

import threading

from flywheel.capture.import_commit import APP, Appender, StoredCases, StoredTraffic
from flywheel.lake.tables import Lake
from flywheel.records import Check, EvalCase, Message


def inferences(make, numbers):
    return [make.inference(inference_id=f"0196f2d2-{n:04x}-7000-8000-000000000000", flow="triage") for n in numbers]


def ids(lake):
    return sorted(lake.read("inferences")["inference_id"].to_pylist())


def test_whoever_comes_second_looks_again(pipeline, make):
    first, second = (Appender(pipeline.lake, StoredTraffic(pipeline.lake)) for _ in range(2))
    rows = inferences(make, range(4))
    assert len(first.append("inferences", rows[:2], lambda row: row)) == 2
    assert len(second.append("inferences", rows[:1], lambda row: row)) == 0
    assert len(first.append("inferences", rows[1:3], lambda row: row)) == 1
    assert len(second.append("inferences", rows, lambda row: row)) == 1
    assert ids(pipeline.lake) == sorted(row.inference_id for row in rows)
    assert pipeline.lake.last_committed("inferences", APP) == 3


def test_rows_that_are_there_are_not_made_ready_again(pipeline, make):
    appender = Appender(pipeline.lake, StoredTraffic(pipeline.lake))
    rows, made = inferences(make, [1, 2]), []
    for _ in range(2):
        appender.append("inferences", [*rows, *rows], lambda row: made.append(row) or row)
    assert len(made) == 2


def test_many_at_once_bring_each_row_once(pipeline, make):
    rows = inferences(make, range(60))
    brought = []

    def work(start):
        lake = Lake(pipeline.lake.uri)
        appender = Appender(lake, StoredTraffic(lake))
        parts = [rows[at : at + 10] for at in range(start, start + 40, 10)]
        brought.extend(len(appender.append("inferences", part, lambda row: row)) for part in parts)

    threads = [threading.Thread(target=work, args=[start]) for start in (0, 10, 20, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(pipeline.lake) == sorted(row.inference_id for row in rows)
    assert sum(brought) == 60
    assert len(brought) == 16


def test_cases_take_turns_too(pipeline):
    cases = [
        EvalCase(
            case_id=f"c{n}", flow="triage", suite="s", messages=[Message(role="user", content="x")],
            check=Check(kind="exact", expected="y"), origin="import",
        )
        for n in range(3)
    ]  # fmt: skip
    first, second = (Appender(pipeline.lake, StoredCases(pipeline.lake)) for _ in range(2))
    assert first.append("eval_cases", cases[:2], lambda case: case) == {("c0",), ("c1",)}
    assert second.append("eval_cases", cases, lambda case: case) == {("c2",)}
    assert first.append("eval_cases", cases, lambda case: case) == set()
