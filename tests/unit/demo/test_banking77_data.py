"""The data part of the banking77 benchmark, on made-up texts; no third-party row is needed."""

import csv
import gzip
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from flywheel.errors import InputError, UsageError

SOURCE = Path(__file__).parents[3] / "benchmarks" / "banking77_data.py"


@pytest.fixture(scope="module")
def data():
    spec = importlib.util.spec_from_file_location("banking77_data", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def rows(data):
    return [data.Row(f"text {i} about topic{label}", f"label_{label}") for label in range(8) for i in range(60)]


@pytest.fixture
def splits(data, rows):
    return data.split(rows, 1, labels=6, old=4, random_cases=60)


def test_csv_and_jsonl_gzipped_or_not_give_the_same_rows(data, tmp_path, rows):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((row.text, row.label) for row in rows)
    lines = "".join(json.dumps({"text": row.text, "label": row.label}) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write(lines)
    for name in ("a.csv", "a.jsonl", "a.jsonl.gz"):
        assert data.read_rows(tmp_path / name) == rows


def test_a_line_without_label_is_named(data, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n{"text": "c"}\n')
    with pytest.raises(InputError, match=r"line 2, field 'label'"):
        data.read_rows(path)


def test_another_kind_of_file_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match="neither"):
        data.read_rows(tmp_path / "rows.parquet")


def test_repeated_texts_are_read_once(data, tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text('{"text": "Same text", "label": "a"}\n{"text": "same  TEXT", "label": "a"}\n')
    assert len(data.read_rows(path)) == 1


def test_the_parts_of_a_split_share_no_row(data, splits):
    parts = [splits.tune, splits.traffic, splits.random_suite, splits.old_suite]
    texts = [row.text for part in parts for row in part]
    assert len(texts) == len(set(texts))
    assert len(splits.random_suite) == 60


def test_old_parts_hold_old_labels_only_and_traffic_holds_both(splits):
    assert {row.label for row in splits.tune} == set(splits.old)
    assert {row.label for row in splits.old_suite} == set(splits.old)
    assert {row.label for row in splits.traffic} == set(splits.old + splits.new)
    assert not set(splits.old) & set(splits.new)


def test_a_seed_decides_labels_and_rows(data, rows, splits):
    assert data.split(rows, 1, labels=6, old=4, random_cases=60) == splits
    assert data.split(rows, 2, labels=6, old=4, random_cases=60) != splits


def test_too_few_labels_or_rows_are_refused(data, rows):
    with pytest.raises(UsageError, match="8 labels"):
        data.split(rows, 1)
    with pytest.raises(UsageError, match="fewer"):
        data.split(rows, 1, labels=6, old=4, random_cases=400)


def test_feedback_noise_is_as_asked(data):
    rows = [data.Row(f"text {label} {i}", f"label_{label}") for label in range(20) for i in range(500)]
    splits = data.split(rows, 0, random_cases=100)
    answers = [row.label if i % 2 else splits.old[0] for i, row in enumerate(splits.traffic)]
    lines = data.interactions(splits, answers, seed=0)
    right = [answer == row.label for answer, row in zip(answers, splits.traffic, strict=True)]
    ups = [line["feedback"][0]["value"] == 1 for line in lines]
    flipped = sum(up != ok for up, ok in zip(ups, right, strict=True)) / len(lines)
    assert 0.08 < flipped < 0.12
    corrected = [
        (row.label, line["feedback"][1]["text"])
        for row, line in zip(splits.traffic, lines, strict=True)
        if len(line["feedback"]) == 2
    ]
    wrong = sum(label != text for label, text in corrected) / len(corrected)
    assert 0.17 < wrong < 0.23


def test_lines_are_what_import_reads(data, splits):
    from flywheel.capture.import_format import ImportedCase, ImportedInteraction

    answers = [splits.old[0]] * len(splits.traffic)
    for line in data.interactions(splits, answers, seed=0):
        ImportedInteraction.model_validate(line)
    for case in data.cases(splits.old_suite, data.OLD_SUITE):
        ImportedCase.model_validate(case)


def test_the_svm_learns_from_the_feedback(data, splits):
    answers = [row.label if row.label in splits.old else splits.old[0] for row in splits.traffic]
    targets = data.feedback_targets(data.interactions(splits, answers, seed=0))
    scores = data.svm_baseline(targets, splits)
    assert scores.random > 0.6
    assert len(scores.answers) == len(splits.random_suite)
