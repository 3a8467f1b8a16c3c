"""Items leave for another tool and come back as labels."""

import json
from datetime import UTC, datetime

import pytest

from flywheel.config import FlywheelConfig, load
from flywheel.errors import InputError, UsageError
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import Consent, Inference, Message, ShadowPair
from flywheel.review.labels import add_labels, make_label, read_labels, read_splits
from flywheel.review.splits import label_split
from flywheel.workflow.exchange.label_files import export_items, import_labels
from flywheel.workflow.exchange.labelling import queue

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ALL = {"labels.tune_share": 0.3, "labels.audit_share": 0.3, "labels.gate_share": 0.4}


def row(n: int, **changes) -> Inference:
    return Inference(**{
        "inference_id": f"01900000-0000-7000-8000-{n:012d}", "flow": "triage", "ts": T0, "subject": f"s{n}",
        "model_version": "m1", "messages": [Message(role="user", content=f"question {n}")],
        "choices": [f"answer {n}"], "consent": ["evaluation"], **changes,
    })  # fmt: skip


ROWS = [row(n) for n in range(8)] + [row(8, consent=["training"]), row(9, consent=["evaluation", "third_party"])]


@pytest.fixture
def config(tmp_path):
    return load(FlywheelConfig, overrides={"home": str(tmp_path / "home"), **ALL})


@pytest.fixture
def lake(config) -> Lake:
    lake = open_lake(config)
    lake.append("inferences", ROWS, app="test", version=0)
    return lake


def exported(lake, config, path, **options):
    report = export_items(lake, config, out=path, **{"format_": "argilla", **options})
    return report, json.loads(path.read_text())


def answer(path, records, said):
    """One person's verdicts: ``said`` is from inference id to (verdict, correction)."""
    for record in records:
        choice, text = said(record["metadata"]["inference_id"])
        record["responses"] = {"verdict": [{"value": choice, "user_id": "u1"}]}
        record["responses"] |= {"correction": [{"value": text, "user_id": "u1"}]} if text else {}
    path.write_text(json.dumps(records))


def test_only_consented_items_leave(lake, config, tmp_path):
    report, records = exported(lake, config, tmp_path / "all.json")
    assert report.items == len(records) == 9
    assert ROWS[8].inference_id not in {record["id"] for record in records}
    report, records = exported(lake, config, tmp_path / "away.json", purpose="third_party")
    assert [record["id"] for record in records] == [ROWS[9].inference_id]
    assert report.not_consented == 8
    with pytest.raises(UsageError, match="--force"):
        exported(lake, config, tmp_path / "all.json")
    for wrong in ({"format_": "excel"}, {"purpose": "training"}):
        with pytest.raises(UsageError, match="known"):
            exported(lake, config, tmp_path / "new.json", **wrong)


def test_a_round_trip_gives_labels_once_and_a_changed_mind_a_newer_one(lake, config, tmp_path):
    path = tmp_path / "records.json"
    _, records = exported(lake, config, path, limit=4)
    ids = [record["id"] for record in records]
    answer(path, records, lambda key: ("correct", "better") if key == ids[0] else ("accept", None))
    first = import_labels(lake, config, path, format_="argilla")
    assert (first.labels, first.duplicates, first.rejected) == (4, 0, 0)
    again = import_labels(lake, config, path, format_="argilla")
    assert (again.labels, again.duplicates) == (0, 4)
    assert "nothing new" in again.summary()
    labels = {label.inference_id: label for label in read_labels(lake, "triage")}
    assert set(labels) == set(ids)
    assert (labels[ids[0]].kind, labels[ids[0]].correction) == ("correct", "better")
    by_id = {one.inference_id: one for one in ROWS}
    for label in labels.values():
        assert (label.origin, label.annotator) == ("random", "argilla-u1")
        assert label.split == label_split(by_id[label.inference_id].subject, config.labels, config.seed)
    answer(path, records, lambda key: ("reject", None))
    assert import_labels(lake, config, path, format_="argilla").labels == 4
    assert {label.kind for label in read_labels(lake, "triage")} == {"reject"}


def test_splits_come_from_the_ledger_whatever_shares_and_file_say(lake, config, tmp_path):
    subject = ROWS[0]
    other = next(split for split in ("tune", "audit", "gate") if split != label_split("s0", config.labels, config.seed))
    add_labels(lake, [make_label(subject, annotator="ann", kind="accept", split=other, origin="curated")])
    assert read_splits(lake, "triage") == {"s0": other}
    path = tmp_path / "records.json"
    _, records = exported(lake, config, path)
    for record in records:
        record["metadata"]["split"] = "gate"
    answer(path, records, lambda key: ("accept", None))
    moved = load(FlywheelConfig, overrides={"home": str(config.home), "seed": 5, **ALL})
    import_labels(lake, moved, path, format_="argilla")
    splits = {label.split for label in read_labels(lake, "triage") if label.subject == "s0"}
    assert splits == {other}
    assert {item.split for item in queue(lake, moved, source="second", annotator="bob")
            if item.inference.subject == "s0"} == {other}  # fmt: skip


def test_foreign_and_broken_records_are_rejected_and_the_rest_is_stored(lake, config, tmp_path):
    path = tmp_path / "records.json"
    _, records = exported(lake, config, path, limit=3)
    answer(path, records, lambda key: ("accept", None))
    foreign = {**records[0], "metadata": {**records[0]["metadata"], "inference_id": "elsewhere"}}
    withdrawn = next(one for one in ROWS if one.inference_id == records[1]["id"])
    lake.append(
        "consents", [Consent(subject=withdrawn.subject, purpose="evaluation", ts=datetime.now(UTC), state="withdrawn")],
        app="test", version=0,
    )  # fmt: skip
    path.write_text(json.dumps([foreign, *records, {"id": 3}]))
    with pytest.raises(InputError, match=r"metadata\.inference_id"):
        import_labels(lake, config, path, format_="argilla", strict=True)
    assert read_labels(lake, "triage") == []
    report = import_labels(lake, config, path, format_="argilla")
    assert (report.labels, report.rejected) == (2, 3)
    fields = [json.loads(line)["field"] for line in (config.home_path() / "rejects").glob("*").__next__().open()]
    assert fields == ["metadata.inference_id", "metadata.inference_id", "metadata"]


def test_label_studio_round_trip_of_comparisons(lake, config, tmp_path):
    pairs = [
        ShadowPair(
            inference_id=one.inference_id, flow="triage", ts=T0, subject=one.subject, candidate="m2",
            live_version="m1", live_answer=one.choices[0], candidate_answer="rival",
        )
        for one in ROWS[:3]
    ]  # fmt: skip
    lake.append("shadow_pairs", pairs, app="test", version=0)
    path = tmp_path / "tasks.json"
    report, tasks = exported(lake, config, path, format_="label-studio", question="compare")
    assert report.items == 3
    assert "<Pairwise" in report.setup
    for task in tasks:
        left = "left" if task["data"]["first"] == "rival" else "right"
        result = {"from_name": "better", "to_name": "first,second", "type": "pairwise", "value": {"selected": left}}
        task["annotations"] = [{"completed_by": 1, "result": [result], "updated_at": "2026-02-01T10:00:00Z"}]
    path.write_text(json.dumps(tasks))
    assert import_labels(lake, config, path, format_="label-studio", annotator="ann").labels == 3
    assert import_labels(lake, config, path, format_="label-studio", annotator="ann").labels == 0
    labels = read_labels(lake, "triage")
    assert {(one.kind, one.value, one.other_answer, one.annotator) for one in labels} == {
        ("compare", -1.0, "rival", "ann")
    }
    assert len(queue(lake, config)) == 9, "comparing an answer does not judge it"
    assert queue(lake, config, question="compare") == []
