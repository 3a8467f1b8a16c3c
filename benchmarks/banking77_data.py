"""Turns a ``text,label`` file into a flywheel's input: splits, interactions with noisy feedback, cases.

Everything is seeded and pure but for reading and writing files. The rows of a file are split once, without
overlap: what the base model is tuned on (old labels only), the traffic, and two held-out suites.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from flywheel.errors import InputError, UsageError
from flywheel.records import Example, Message
from flywheel.text.normalise import normalise

FLOW = "banking77"
RANDOM_SUITE, OLD_SUITE = "random", "old-intents"
CORRECTION_NOISE = 0.20
THUMBS_NOISE = 0.10


@dataclass(frozen=True)
class Row:
    """One labelled text."""

    text: str
    label: str


@dataclass(frozen=True)
class Splits:
    """Disjoint parts of a file; no normalised text is in two of them.

    ``traffic`` and ``random_suite`` come from one pool, so both have the same mix of old and new labels.
    """

    old: tuple[str, ...]
    new: tuple[str, ...]
    tune: tuple[Row, ...]
    traffic: tuple[Row, ...]
    random_suite: tuple[Row, ...]
    old_suite: tuple[Row, ...]


@dataclass(frozen=True)
class SvmScores:
    """Accuracies of the TF-IDF + linear SVM baseline, 0 to 1, and its answers to the random suite."""

    random: float
    old: float
    answers: list[str]


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV or JSON-lines file with ``text`` and ``label``, gzipped or not, exact duplicates removed.

    Raises:
        InputError: a line lacks a field; names file, line and field.
        UsageError: the file's name ends in neither csv nor jsonl (with or without .gz).
    """
    name = path.name.removesuffix(".gz")
    if not name.endswith((".csv", ".jsonl")):
        raise UsageError(f"{path} is neither .csv nor .jsonl (or .gz of these); convert it first")
    with _open(path) as file:
        parsed = csv.DictReader(file) if name.endswith(".csv") else map(json.loads, file)
        first_line = 2 if name.endswith(".csv") else 1
        rows = [_row(path, number, data) for number, data in enumerate(parsed, first_line)]
    unique = {normalise(row.text): row for row in reversed(rows)}
    return [row for row in rows if unique[normalise(row.text)] is row]


def split(
    rows: Sequence[Row],
    seed: int,
    *,
    labels: int = 20,
    old: int = 12,
    tune_share: float = 0.25,
    old_suite_share: float = 0.25,
    random_cases: int = 620,
) -> Splits:
    """Choose labels and split their rows.

    Args:
        rows: of the whole file.
        seed: of the choice of labels and of every split.
        labels: how many labels take part.
        old: how many of these the base model is tuned on.
        tune_share: share of the old labels' rows that the base model is tuned on.
        old_suite_share: share of the old labels' rows held out as the forgetting suite.
        random_cases: rows of the pool held out as the random suite; the rest of the pool is traffic.

    Raises:
        UsageError: the file has too few labels or rows for these numbers.
    """
    known = sorted({row.label for row in rows})
    if len(known) < labels or not 0 < old < labels:
        raise UsageError(f"the file has {len(known)} labels; {labels} with {old} old ones cannot be chosen")
    rng = random.Random(f"{FLOW}/{seed}")
    chosen = rng.sample(known, labels)
    old_labels, new_labels = tuple(chosen[:old]), tuple(chosen[old:])
    old_rows = _shuffled(rng, (row for row in rows if row.label in old_labels))
    new_rows = [row for row in rows if row.label in new_labels]
    tuned, suite = round(tune_share * len(old_rows)), round(old_suite_share * len(old_rows))
    pool = _shuffled(rng, [*old_rows[tuned + suite :], *new_rows])
    if len(pool) <= random_cases:
        raise UsageError(f"{len(pool)} rows are left for traffic and {random_cases} random cases; ask for fewer cases")
    return Splits(
        old=old_labels,
        new=new_labels,
        tune=tuple(old_rows[:tuned]),
        old_suite=tuple(old_rows[tuned : tuned + suite]),
        random_suite=tuple(pool[:random_cases]),
        traffic=tuple(pool[random_cases:]),
    )


def tune_examples(splits: Splits) -> list[Example]:
    """What the base model is tuned on: message in, label name out."""
    return [
        Example(
            example_id=f"{FLOW}-tune-{i}",
            flow=FLOW,
            messages=[Message(role="user", content=row.text)],
            target=row.label,
            inference_ids=[],
            subject="tune",
            origin="liked",
        )
        for i, row in enumerate(splits.tune)
    ]


def interactions(
    splits: Splits,
    answers: Sequence[str],
    seed: int,
    *,
    model: str = "base",
    correction_noise: float = CORRECTION_NOISE,
    thumbs_noise: float = THUMBS_NOISE,
    users: int = 200,
) -> list[dict[str, Any]]:
    """The traffic as lines of ``flywheel import``: each answer gets thumbs, each thumbs down a correction.

    Args:
        splits: of the file.
        answers: the base model's real answers, one for each row of ``splits.traffic``.
        seed: of users and noise.
        model: name of the model that answered.
        correction_noise: share of corrections that name another label at random.
        thumbs_noise: share of thumbs that point the wrong way.
        users: number of accounts the traffic is spread over.
    """
    rng = random.Random(f"{FLOW}/feedback/{seed}")
    labels = splits.old + splits.new
    lines = []
    for row, answer in zip(splits.traffic, answers, strict=True):
        up = (answer == row.label) != (rng.random() < thumbs_noise)
        feedback: list[dict[str, Any]] = [{"kind": "thumbs", "value": 1 if up else -1}]
        if not up:
            wrong = rng.random() < correction_noise
            text = rng.choice([label for label in labels if label != row.label]) if wrong else row.label
            feedback.append({"kind": "correction", "text": text})
        lines.append(
            {
                "flow": FLOW,
                "user": f"customer-{rng.randrange(users):04d}",
                "messages": [{"role": "user", "content": row.text}],
                "response": answer,
                "model": model,
                "consent": ["training", "evaluation"],
                "feedback": feedback,
            }
        )
    return lines


def cases(rows: Iterable[Row], suite: str) -> list[dict[str, Any]]:
    """Held-out rows as lines of ``flywheel cases import``; a case's slice is its label."""
    return [
        {
            "messages": [{"role": "user", "content": row.text}],
            "check": {"kind": "normalised", "expected": row.label},
            "suite": suite,
            "flow": FLOW,
            "slice": row.label,
        }
        for row in rows
    ]


def write_jsonl(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    """Write one JSON object a line; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return path


def feedback_targets(lines: Iterable[dict[str, Any]]) -> list[Row]:
    """What the feedback says is right: the correction, else the liked answer. Noise included."""
    targets = []
    for line in lines:
        given = {item["kind"]: item for item in line["feedback"]}
        if "correction" in given:
            targets.append(Row(line["messages"][0]["content"], given["correction"]["text"]))
        elif given["thumbs"]["value"] > 0:
            targets.append(Row(line["messages"][0]["content"], line["response"]))
    return targets


def svm_baseline(train: Sequence[Row], splits: Splits) -> SvmScores:
    """TF-IDF (words and pairs) + linear SVM, scikit-learn's defaults, on the same labels as the flywheel has."""
    classify = fit_svm(train)
    answers = classify([row.text for row in splits.random_suite])
    old_answers = classify([row.text for row in splits.old_suite])
    return SvmScores(_accuracy(answers, splits.random_suite), _accuracy(old_answers, splits.old_suite), answers)


def fit_svm(train: Sequence[Row]) -> Callable[[list[str]], list[str]]:
    """From texts to labels: TF-IDF and a linear SVM that learnt from these rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LinearSVC(random_state=0))
    pipeline.fit([row.text for row in train], [row.label for row in train])
    return lambda texts: [str(label) for label in pipeline.predict(texts)]


def _accuracy(answers: Sequence[str], rows: Sequence[Row]) -> float:
    return sum(answer == row.label for answer, row in zip(answers, rows, strict=True)) / len(rows)


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _row(path: Path, number: int, data: dict[str, Any]) -> Row:
    for field in ("text", "label"):
        if not isinstance(data.get(field), str) or not data[field].strip():
            raise InputError(str(path), number, field, "is missing or empty")
    return Row(data["text"].strip(), data["label"].strip())


def _shuffled(rng: random.Random, rows: Iterable[Row]) -> list[Row]:
    shuffled = list(rows)
    rng.shuffle(shuffled)
    return shuffled
