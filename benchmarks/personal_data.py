"""How much personal data do the detectors find, and how often are they wrong?

Reads labelled texts (``pii_spans.jsonl.gz``; fake identities) from ``../shared/data`` or the folder named by
FLYWHEEL_BENCH_DATA. A labelled span counts as found when detected spans of the kind cover all its letters and
digits; a detected span counts as right when it overlaps a labelled span of its type. Names are given as a
list, as in production: the list holds the words of a random half of the labelled people, so recall is
reported for listed and for unlisted people apart.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import phonenumbers
from results_file import ROOT, write
from scipy import stats

from flywheel.capture.anonymise import Anonymiser
from flywheel.config import PrivacyConfig
from flywheel.text.names import WORD, fold
from flywheel.text.personal_data import Span, detect

SEED = 20
REGIONS = ("US", "GB", "DE")
TYPES = {
    "email": "EMAIL_ADDRESS", "iban": "IBAN_CODE", "card": "CREDIT_CARD",
    "phone": "PHONE_NUMBER", "ip": "IP_ADDRESS", "name": "PERSON",
}  # fmt: skip
WANTED_RECALL = {"email": 0.98, "iban": 0.95, "card": 0.95, "ip": 0.95, "phone": 0.70}
WANTED_PRECISION = {"email": 0.98, "iban": 0.98, "card": 0.95, "ip": 0.95, "phone": 0.90}
MATCHERS = {"phonenumbers matcher, possible": 0, "phonenumbers matcher, valid": 1}
Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="accepted for uniformity; the run takes seconds")
    parser.parse_args()
    folder = Path(os.environ.get("FLYWHEEL_BENCH_DATA", ROOT.parent / "shared" / "data"))
    source = folder / "pii_spans.jsonl.gz"
    if not source.exists():
        print(f"skipped: {source} is not there; set FLYWHEEL_BENCH_DATA to the folder that holds it")
        return 0
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line) for line in lines]
    rows = [measure(kind, texts) for kind in TYPES if kind != "name"] + names(texts)
    rows += [matcher(texts, label, leniency) for label, leniency in MATCHERS.items()] + [speed(texts)]
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))
    path = write("personal-data", SEED, rows, targets(rows))
    print(f"written {path.relative_to(ROOT)}")
    return 0


def measure(kind: str, texts: Sequence[Row], listed: frozenset[str] = frozenset()) -> Row:
    """Recall and precision of one kind; all detectors run, as in production."""
    labelled = found = detected = right = 0
    for row in texts:
        wanted = [(s["start"], s["end"]) for s in row["spans"] if s["type"] == TYPES[kind]]
        spans = [s for s in detect(row["text"], names=listed, phone_regions=REGIONS) if s.kind == kind]
        labelled += len(wanted)
        found += sum(covered(row["text"], start, end, spans) for start, end in wanted)
        detected += len(spans)
        right += sum(any(s.start < end and start < s.end for start, end in wanted) for s in spans)
    return scores(kind, labelled, found, detected, right)


def names(texts: Sequence[Row]) -> list[Row]:
    """Recall for people on the list and for people who are not on it."""
    people = sorted({s["value"] for row in texts for s in row["spans"] if s["type"] == "PERSON"})
    known = set(random.Random(SEED).sample(people, len(people) // 2))
    listed = frozenset(word for person in known for word in words(person))
    rows: list[Row] = []
    for label, wanted in (("name, person on the list", known), ("name, person not on the list", set(people) - known)):
        subset = [
            {**row, "spans": [s for s in row["spans"] if s["type"] == "PERSON" and s["value"] in wanted]}
            for row in texts
        ]
        rows.append(measure("name", subset, listed) | {"kind": label, "precision": None, "precision_interval": None})
    return [*rows, measure("name", texts, listed) | {"kind": "name, everybody"}]


def matcher(texts: Sequence[Row], label: str, leniency: int) -> Row:
    """The peer: ``phonenumbers``' own text matcher over the same regions."""
    labelled = found = detected = right = 0
    for row in texts:
        text, wanted = row["text"], [(s["start"], s["end"]) for s in row["spans"] if s["type"] == "PHONE_NUMBER"]
        spans = {
            Span("phone", m.start, m.end, m.raw_string)
            for region in REGIONS
            for m in phonenumbers.PhoneNumberMatcher(text, region, leniency=leniency)
        }
        labelled += len(wanted)
        found += sum(covered(text, start, end, spans) for start, end in wanted)
        detected += len(spans)
        right += sum(any(s.start < end and start < s.end for start, end in wanted) for s in spans)
    return scores(label, labelled, found, detected, right)


def speed(texts: Sequence[Row]) -> Row:
    """Messages a second of CPU time through the anonymiser, one core, best of three."""
    anonymiser = Anonymiser(b"benchmark", PrivacyConfig(phone_regions=list(REGIONS)))
    best = float("inf")
    for attempt in range(3):
        began = time.process_time()
        for index, row in enumerate(texts):
            anonymiser.text(row["text"], f"{attempt}-{index}")
        best = min(best, time.process_time() - began)
    letters = sum(len(row["text"]) for row in texts) / len(texts)
    return {"kind": "speed", "messages_per_s": round(len(texts) / best), "mean_characters": round(letters)}


def covered(text: str, start: int, end: int, spans: Iterable[Span]) -> bool:
    inside = {place for span in spans for place in range(span.start, span.end)}
    return all(place in inside for place in range(start, end) if text[place].isalnum())


def words(person: str) -> list[str]:
    return [fold(match.group()) for match in WORD.finditer(person) if len(match.group()) > 1]


def scores(kind: str, labelled: int, found: int, detected: int, right: int) -> Row:
    return {
        "kind": kind,
        "labelled": labelled,
        "recall": round(found / labelled, 4) if labelled else None,
        "recall_interval": interval(found, labelled),
        "detected": detected,
        "precision": round(right / detected, 4) if detected else None,
        "precision_interval": interval(right, detected),
    }


def interval(hits: int, of: int) -> tuple[float, float] | None:
    """95 % interval of a share (Wilson 1927)."""
    if not of:
        return None
    bounds = stats.binomtest(hits, of).proportion_ci(method="wilson")
    return round(float(bounds.low), 4), round(float(bounds.high), 4)


def targets(rows: Sequence[Row]) -> list[Row]:
    by_kind = {row["kind"]: row for row in rows}
    made: list[Row] = []
    for measured, wanted in (("recall", WANTED_RECALL), ("precision", WANTED_PRECISION)):
        for kind, target in wanted.items():
            row = by_kind[kind]
            peers = [f"{label} {by_kind[label][measured]}" for label in MATCHERS] if kind == "phone" else []
            made.append(
                target_row(f"{kind} {measured}", target, row[measured])
                | {"interval": row[f"{measured}_interval"], "peer": "; ".join(peers) or None}
            )
    return [*made, target_row("messages a second on one core", 5_000, by_kind["speed"]["messages_per_s"])]


def target_row(name: str, target: float, measured: float | None) -> Row:
    met = measured is not None and measured >= target
    return {
        "name": name,
        "target": target,
        "measured": measured,
        "met": met,
        "why_not": None if met else "below the target on this data; the rows hold the counts",
    }


if __name__ == "__main__":
    sys.exit(main())
