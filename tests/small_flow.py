"""A small flow for tests: logs, a reviewer who knows the truth, and a configuration of one quick turn."""

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from flywheel.capture.importer import import_cases, import_interactions
from flywheel.config import FlywheelConfig, load
from flywheel.demo.product import Generator, render, write_cases
from flywheel.demo.reviewer import Reviewer, TruthBook
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import Lake, open_lake
from flywheel.review.labels import add_labels, make_label
from flywheel.rollout import promotion
from flywheel.telemetry import Silent
from flywheel.workflow.exchange.labelling import queue
from flywheel.workflow.turns.models import registered

ROOT = Path(__file__).parents[1]
INTERACTIONS = 200
KEYS = {
    "inferences": ["inference_id"],
    "feedback": ["feedback_id"],
    "signals": ["inference_id", "signal", "version"],
    "examples": ["example_id"],
    "eval_cases": ["case_id", "version"],
    "eval_results": ["run_id", "case_id", "case_version"],
    "decisions": ["decision_id"],
}
"""What names a row of each table: no two rows of a table have the same."""


def settings(home: Path, **sections) -> dict:
    """The CI configuration with this home and these sections on top; no shadow."""
    found = yaml.safe_load((ROOT / "configs/ci/flywheel.yaml").read_text())
    found["home"] = str(home)
    found["rollout"]["gate"]["require_shadow"] = False
    return {**found, **sections}


def moment(number: int) -> datetime:
    """When a ticket came: one a minute, the next on another of 20 days."""
    return datetime(2026, 11, 1, 10, tzinfo=UTC) + timedelta(days=number % 20, minutes=number // 20)


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
                "ts": moment(number).isoformat(),
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
    by_time = {moment(number): ticket for number, ticket in enumerate(tickets(count))}
    items = [item for item in queue(lake, config) if item.inference.traffic_kind == "import"]
    for item in items:
        book.note(item.inference.inference_id, by_time[item.inference.ts])
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


def prepare(folder, cluster, model, interactions=INTERACTIONS, **sections):
    """A flow with logs, cases, labels and a live model; the keys are the same in every folder."""
    folder.mkdir()
    content = settings(folder / "home", cluster={"address": cluster.address}, **sections)
    (folder / "flow.yaml").write_text(yaml.safe_dump(content))
    config = load(FlywheelConfig, folder / "flow.yaml")
    lake = open_lake(config)
    import_interactions(lake, config, Keyring(config.home_path()), write_logs(folder / "logs.jsonl", interactions))
    import_cases(lake, config, write_old_cases(folder / "cases.jsonl"))
    label(config, interactions)
    promotion.start(lake, config, registered(config, str(model), Silent()))
    return config, lake


def start_turn(folder, cluster, **environment):
    return _start(folder, cluster, "-m", "flywheel", "turn", "--json", "-c", "flow.yaml", **environment)


def start_curation(folder, cluster):
    """The steps of a turn that end with a dataset."""
    return _start(folder, cluster, str(ROOT / "jobs" / "curate.py"), "--config", "flow.yaml")


def _start(folder, cluster, *arguments, **environment):
    command = [sys.executable, *arguments]
    with (folder / "out.json").open("wb") as out, (folder / "turn.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=log, env={**cluster.environment, **environment})


def row_keys(lake, table, key):
    return Counter(tuple(row.values()) for row in lake.read(table, columns=key).to_pylist())
