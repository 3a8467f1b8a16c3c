"""A small flow for tests: logs, a reviewer who knows the truth, and a configuration of one quick turn."""

import json
from pathlib import Path

import yaml

from flywheel.config import FlywheelConfig
from flywheel.demo.product import Generator, render, write_cases
from flywheel.demo.reviewer import Reviewer, TruthBook
from flywheel.lake.tables import Lake, open_lake
from flywheel.review.labels import add_labels, make_label
from flywheel.workflow.labelling import queue

ROOT = Path(__file__).parents[1]


def settings(home: Path, **sections) -> dict:
    """The CI configuration with this home and these sections on top; no shadow."""
    found = yaml.safe_load((ROOT / "configs/ci/flywheel.yaml").read_text())
    found["home"] = str(home)
    found["rollout"]["gate"]["require_shadow"] = False
    return {**found, **sections}


def tickets(count: int) -> list:
    return list(Generator(3, new_share=0.4).tickets(count))


def write_logs(path: Path, count: int) -> Path:
    """Two customers in three correct a wrong answer, one in ten consents to nothing."""
    lines = []
    for number, ticket in enumerate(tickets(count)):
        wrong = number % 3 != 0
        lines.append(
            {
                "flow": "triage",
                "user": f"u{number % 80}",
                "session_id": f"s{number}",
                "ts": f"2026-11-{1 + number % 20:02d}T10:{number % 60:02d}:00Z",
                "messages": [{"role": "user", "content": ticket.text}],
                "response": render("greeting", "none", "low") if wrong else ticket.answer,
                "model": "old",
                "consent": ["training", "evaluation"] if number % 10 else [],
                "feedback": [
                    {"kind": "correction", "text": ticket.answer} if wrong else {"kind": "thumbs", "value": 1}
                ],
            }
        )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_old_cases(path: Path, count: int = 60) -> Path:
    return write_cases(path, count)


def label(config: FlywheelConfig, count: int) -> Lake:
    """A simulated reviewer labels what the queue offers of the imported logs."""
    lake, book = open_lake(config), TruthBook()
    by_time = {(f"2026-11-{1 + n % 20:02d}", n % 60): ticket for n, ticket in enumerate(tickets(count))}
    items = [item for item in queue(lake, config) if item.inference.traffic_kind == "import"]
    for item in items:
        at = item.inference.ts
        book.note(item.inference.inference_id, by_time[at.date().isoformat(), at.minute])
    reviewer = Reviewer(book, error_rate=0)
    judged = [(item, reviewer.judge(item.inference.inference_id, item.inference.choices[0])) for item in items]
    add_labels(
        lake,
        [
            make_label(item.inference, annotator="r", kind=mark.kind, correction=mark.correction, split=item.split)
            for item, mark in judged
        ],
    )
    return lake
