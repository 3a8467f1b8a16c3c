"""Which queue a reviewer gets from the lake as it is."""

import json
from datetime import UTC, datetime

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import Lake, open_lake
from flywheel.quality.rows import TUNE
from flywheel.records import Feedback, Inference, Message, Signal
from flywheel.review.labels import add_labels, make_label
from flywheel.review.splits import label_split
from flywheel.workflow.exchange.labelling import queue
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.learn import too_few
from flywheel.workflow.turns.prepare import exclusions
from flywheel.workflow.turns.steps import TurnHandle

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SHARES = {"labels.tune_share": 0.3, "labels.audit_share": 0.3, "labels.gate_share": 0.4}
ROWS = [
    Inference(
        inference_id=f"01900000-0000-7000-8000-{n:012d}", flow="triage", ts=T0, subject=f"s{n}", model_version="m1",
        messages=[Message(role="user", content=f"question {n}")], choices=[f"answer {n % 3}"], consent=["evaluation"],
    )
    for n in range(12)
]  # fmt: skip


@pytest.fixture
def config(tmp_path):
    return load(FlywheelConfig, overrides={"home": str(tmp_path / "home"), **SHARES})


@pytest.fixture
def lake(config) -> Lake:
    lake = open_lake(config)
    lake.append("inferences", ROWS, app="test", version=0)
    return lake


def ids(items):
    return [item.inference.inference_id for item in items]


def said(n, kind="accept", annotator="ann", **fields):
    return make_label(ROWS[n], annotator=annotator, kind=kind, **{"split": "gate", **fields})


def test_the_informative_queue_knows_feedback_labels_and_the_newest_scores(lake, config):
    thumbs = [
        Feedback(feedback_id=f"f{value}", inference_id=ROWS[4].inference_id, flow="triage", ts=T0, subject=f"u{value}",
                 kind="thumbs", value=value)
        for value in (-1, 1)
    ]  # fmt: skip
    lake.append("feedback", thumbs, app="test", version=0)
    items = queue(lake, config, source="informative")
    assert items[0].inference == ROWS[4]
    assert {item.origin for item in items} == {"curated"}
    scores = [
        Signal(inference_id=ROWS[7].inference_id, signal=name, version=version, value=value)
        for version, name, value in (("old", "liked_percentile", 0.9), ("new", "reward_margin", 3.0))
    ]
    lake.append("signals", scores, app="test", version=0, flow="triage")
    add_labels(lake, [said(7, origin="curated")])
    for turn, version in (("turn-0001", "old"), ("turn-0002", "new")):
        artifact = {"version": version, "table_version": lake.version("signals"), "rows": 1, "reused": False}
        TurnHandle(lake.store, "triage", turn).write("05-score", {**artifact, "seconds": 1.0})
    why = {item.inference.inference_id: item.why for item in queue(lake, config, source="informative")}
    assert "disagreement 0.92 of 2 voices" in why[ROWS[7].inference_id], "it accepts what the reward model likes less"


def test_questions_have_queues_of_their_own(lake, config):
    add_labels(lake, [said(0), said(1, "rate", value=2.0)])
    assert ROWS[0].inference_id not in ids(queue(lake, config))
    assert ROWS[1].inference_id in ids(queue(lake, config))
    assert ROWS[1].inference_id not in ids(queue(lake, config, question="rate"))
    assert ids(queue(lake, config, source="second", annotator="bob")) == [ROWS[0].inference_id]
    assert ids(queue(lake, config, source="second", annotator="bob", question="rate")) == [ROWS[1].inference_id]
    add_labels(lake, [said(0, "reject", "bob")])
    assert [len(item.said) for item in queue(lake, config, source="adjudicate")] == [2]


def test_who_was_labelled_is_never_trained_on_although_shares_shrink(lake, config, tmp_path):
    gate = next(n for n, row in enumerate(ROWS) if label_split(row.subject, config.labels, config.seed) == "gate")
    label = said(gate)
    add_labels(lake, [label])
    tiny = dict.fromkeys(SHARES, 0.001)
    later = load(FlywheelConfig, overrides={"home": str(config.home), "seed": 3, **tiny})
    turn = TurnHandle(lake.store, "triage", "turn-0001")
    context = Context(lake, later, Keyring(tmp_path / "keys"), turn, tmp_path)
    held = exclusions(context, ROWS, [label], frozenset()).subjects
    assert held[ROWS[gate].subject] == "label_gate"
    assert TUNE not in json.dumps(held)


def test_people_are_kept_for_the_gate_before_anybody_labels(tmp_path, lake, config):
    """A model that learnt from them would be judged by them once labels come."""
    context = Context(lake, config, Keyring(tmp_path / "keys"), TurnHandle(lake.store, "triage", "turn-0001"), tmp_path)
    held = exclusions(context, ROWS, [], frozenset()).subjects
    splits = {row.subject: label_split(row.subject, config.labels, config.seed) for row in ROWS}
    assert set(splits.values()) == {"tune", "audit", "gate"}
    assert held == {subject: TUNE if split == "tune" else f"label_{split}" for subject, split in splits.items()}


def test_who_has_too_little_is_told_how_much_is_set_aside():
    assert too_few(5, 5, {"held_out": 9}) is None
    assert "(9 rows are set aside to judge by: labels.gate_share" in too_few(4, 5, {"held_out": 9, "min_votes": 3})
    assert "aside" not in too_few(4, 5, {"min_votes": 3})
