"""Forgetting a person: nothing of them is left anywhere, nothing of others is touched, however often it was killed."""

import hashlib
import json
from datetime import timedelta

import pytest
from erase_world import TABLES, World, as_text

from flywheel.capture.importer import import_interactions
from flywheel.config import FlywheelConfig, LakeConfig
from flywheel.errors import ConfigError, NotFoundInLakeError, UsageError
from flywheel.lake.erasures import read_erasures, tainted_lineage
from flywheel.lake.manifests import read_manifest
from flywheel.lake.store import ObjectStore
from flywheel.operate.status import status
from flywheel.quality.reward import RewardModels
from flywheel.records import Inference, utcnow
from flywheel.registry.versions import ModelVersion, untainted
from flywheel.review.labels import add_labels, make_label
from flywheel.rollout import routing
from flywheel.telemetry import Silent
from flywheel.workflow.erasure.erase import forget, look
from flywheel.workflow.erasure.erase_turns import erase_work
from flywheel.workflow.erasure.trace import Trace
from flywheel.workflow.turns import learn, prepare
from flywheel.workflow.turns import verdict as last_steps
from flywheel.workflow.turns.steps import open_turn
from flywheel.workflow.turns.turn import step_key


def made_of(world, row, ids):
    named = {row.get("inference_id"), *(row.get("inference_ids") or [])}
    return bool(named & ids)


def others(world, table):
    """What must still be there: neither Ann's, nor about her answers, nor made of what she said to Ben."""
    ann, reacted = world.subject(world.ann), world.rows[world.ben][5].inference_id
    cases = {row["case_id"] for row in world.lake.read("eval_cases").to_pylist() if row["inference_id"] == reacted}
    kept = set()
    for row in world.lake.read(table).to_pylist():
        derived = table in {"signals", "examples"} and made_of(world, row, {reacted})
        derived |= table in {"eval_cases", "eval_results"} and row["case_id"] in cases and row["suite"] == "failures"
        if row.get("subject") != ann and not made_of(world, row, world.ids(world.ann)) and not derived:
            kept.add(as_text(row))
    return kept


def test_nothing_of_the_person_is_left_and_nobody_else_is_touched(world):
    assert {kind for _, kind in world.traces(world.ann)} == {"id", "text", "pseudonym"}
    before = {table: others(world, table) for table in TABLES}
    assert all(before.values())
    forget(world.config, world.ann)
    assert world.traces(world.ann) == set()
    assert world.stored() == before
    assert world.traces(world.ben)


def test_every_removed_row_is_counted_once(world):
    ids, subject = world.ids(world.ann), world.subject(world.ann)
    examples = [row for row in world.lake.read("examples").to_pylist() if made_of(world, row, ids)]
    done = forget(world.config, world.ann)
    assert done.removed == {
        "outboxes": 2,
        "landing": 6 + 1 + 6 + 1 + 1 + 1 + 2,  # answers, pair, reactions, consent, one by Ben, one to Ben, two odd ones
        "quarantine": 1,
        # side, text (twice: its suite decides), the session of her case, ids that training left out (one of Ben's),
        # groups, cases
        "turns": 1 + 2 + 1 + len(examples) + 1 + 2 + 2,
        # her six answers, and Ben's that she corrected; five reactions that the reward model could not use
        "working copies": 7 + 5,
        "reports": 1,
        "drops": 6 - len(examples),
        "near-duplicate index": len(examples),  # as many of her answers as could be learnt from: no filter
        "review notes": 2,
        "eval_results": 2,
        "eval_cases": 2,
        "examples": len(examples),
        "signals": 7,
        "labels": 2,
        "shadow_pairs": 1,
        "judgements": 2,  # in the shadow, and on a case
        "consents": 1,
        "feedback": 8,
        "inferences": 6,
    }
    assert (done.subject, done.tenant, done.dry, done.again) == (subject, "default", False, None)
    stored = json.loads(world.lake.store.get(world.lake.store.list("erasures/reports")[0]))
    assert stored == done.model_dump(mode="json")


def test_a_look_says_what_would_go_and_changes_nothing(world):
    def fingerprint():
        return {name: hashlib.sha256(data).hexdigest() for name, data in world.contents() if "outbox" not in name}

    before = fingerprint()
    seen = look(world.config, world.ann)
    assert fingerprint() == before
    done = forget(world.config, world.ann)
    assert (seen.removed, seen.marked, seen.dry) == (done.removed, done.marked, True)


def test_a_person_nobody_knows_is_buried_all_the_same(world):
    before = {table: world.lake.version(table) for table in TABLES}
    done = forget(world.config, "stranger")
    assert done.total == 0
    assert {table: world.lake.version(table) for table in TABLES} == before
    assert read_erasures(world.lake.store).covers(world.subject("stranger"), done.until)
    assert world.turn.read("finished") is None
    with pytest.raises(UsageError, match="Name the person"):
        forget(world.config, "")


@pytest.mark.parametrize("act", [look, forget])
def test_keys_that_are_not_the_lakes_find_nobody_and_are_refused(world, tmp_path, act):
    world.keyring.check_belongs(world.lake.store)
    elsewhere = FlywheelConfig(home=tmp_path / "elsewhere", lake=LakeConfig(uri=world.lake.store.uri))
    before = set(world.lake.store.list())
    with pytest.raises(ConfigError, match="another master key"):
        act(elsewhere, world.ann)
    assert set(world.lake.store.list()) == before
    assert forget(world.config, world.ann).total


@pytest.mark.parametrize("act", [look, forget])
def test_an_empty_lake_is_refused_for_it_is_likely_another(tmp_path, act):
    with pytest.raises(UsageError, match="is empty, so nobody can be forgotten"):
        act(FlywheelConfig(home=tmp_path / "home"), "ann")
    assert not (tmp_path / "home" / "keys").exists()


def test_what_has_not_left_the_outbox_yet_is_forgotten_too(tmp_path):
    fresh = World(tmp_path / "home")
    fresh.record(fresh.inference(fresh.ann, 1))
    assert forget(fresh.config, fresh.ann).removed["outboxes"] == 1
    assert fresh.traces(fresh.ann) == set()


def test_the_second_run_says_so_and_sweeps_what_came_late(world):
    late = [world.inference(world.ann, 20), world.inference(world.ben, 20)]  # acknowledged, not yet in an outbox
    stored = next(row for row in world.lake.records("inferences", Inference) if row.subject == world.subject(world.ann))
    first = forget(world.config, world.ann)
    world.record(*late)
    world.ship()
    world.ingest()
    answers = {row.inference_id for row in world.lake.records("inferences", Inference)}
    assert late[0].inference_id not in answers
    assert late[1].inference_id in answers
    label = make_label(stored, annotator="reviewer", kind="accept", split="gate")  # was open on a reviewer's screen
    add_labels(world.lake, [label])
    second = forget(world.config, world.ann)
    assert second.again == first.until
    assert {name: count for name, count in second.removed.items() if count} == {"labels": 1}
    assert world.traces(world.ann) == set()


def test_a_person_who_came_back_can_be_forgotten_again(world):
    forget(world.config, world.ann)
    row = world.inference(world.ann, 30)
    world.record(row, world.feedback(row), world.pair(row))
    world.ship()
    world.ingest()
    assert [
        r.inference_id for r in world.lake.records("inferences", Inference) if r.subject == world.subject(world.ann)
    ]
    again = forget(world.config, world.ann)
    assert {name: count for name, count in again.removed.items() if count} == {
        "landing": 3, "shadow_pairs": 1, "feedback": 1, "inferences": 1,
    }  # fmt: skip
    assert world.traces(world.ann) == set()


def test_an_old_log_brings_nobody_back(world, tmp_path):
    line = {"flow": "triage", "user": world.ann, "ts": "2026-01-01T00:00:00Z", "response": "x", "consent": ["training"],
            "messages": [{"role": "user", "content": world.word(world.ann)}]}  # fmt: skip
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(line) + "\n")
    forget(world.config, world.ann)
    report = import_interactions(world.lake, world.config, world.keyring, path)
    assert (report.inferences, report.erased) == (0, 1)
    assert world.traces(world.ann) == set()


def test_a_row_from_a_clock_that_was_ahead_goes_too(world, tmp_path):
    ahead = (utcnow() + timedelta(hours=3)).isoformat()
    line = {"flow": "triage", "user": world.ann, "ts": ahead, "response": "x", "consent": ["training"],
            "messages": [{"role": "user", "content": world.word(world.ann)}],
            "feedback": [{"kind": "thumbs", "value": 1}]}  # fmt: skip
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(line) + "\n")
    import_interactions(world.lake, world.config, world.keyring, path)
    done = forget(world.config, world.ann)
    assert (done.removed["inferences"], done.removed["feedback"]) == (7, 9)
    assert world.traces(world.ann) == set()


def test_every_flow_of_the_tenant_is_swept(world):
    other = FlywheelConfig(home=world.home, flow="other", lake=world.config.lake)
    row = world.inference(world.ann, 70, flow="other")
    world.lake.append("inferences", [row.model_copy(update={"subject": world.subject(world.ann)})], app="x", version=1)
    assert forget(other, world.ann).removed["inferences"] == 7
    assert world.traces(world.ann) == set()


def test_datasets_and_models_are_marked_and_the_gate_refuses_them(world):
    dataset = world.done()["curate"]["id"]
    done = forget(world.config, world.ann)
    assert done.marked == [f"dataset/{dataset}", "model/triage-v0002"]
    artifacts = {**world.done(), "shadow": {"summary": None}}
    verdict = last_steps.gate(world.context(), artifacts, Silent())
    (reason,) = [reason for reason in verdict["reasons"] if reason["name"] == "no_erased_data"]
    assert (verdict["verdict"], reason["passed"]) == ("reject", False)
    assert f"dataset/{dataset}" in reason["text"]
    assert "Run a new turn" in reason["text"]


def test_without_an_erasure_the_gate_has_nothing_against_it(world):
    verdict = last_steps.gate(world.context(), {**world.done(), "shadow": {"summary": None}}, Silent())
    (reason,) = [reason for reason in verdict["reasons"] if reason["name"] == "no_erased_data"]
    assert reason["passed"] is True


def test_a_marked_live_model_goes_on_serving_and_the_next_turn_learns_from_its_clean_ancestor(world, monkeypatch):
    shadow = routing.Shadow(version="triage-v0002", folder="/models/v2")
    truth = routing.with_shadow(routing.current(world.lake.store, "triage"), shadow, actor="t", reason="t")
    routing.publish(world.lake.store, truth)
    routing.publish(world.lake.store, routing.promoted(truth, "triage-v0002", actor="t", reason="t"))
    assert untainted(world.lake, "triage-v0002") == "triage-v0002"
    done = forget(world.config, world.ann)
    assert done.live == {"triage": "triage-v0002"}
    state = status(world.lake, world.config)
    assert state["live"]["version"] == "triage-v0002"
    assert state["live"]["erased"] == ["model/triage-v0002", done.marked[0]]
    world.turn.write("finished", {"decision": "reject", "reasons": []})
    artifact = prepare.snapshot(world.context(), {}, Silent())
    assert (artifact["live"]["version"], artifact["base"]) == ("triage-v0002", "triage-v0001")
    assert tainted_lineage(world.lake, "model", "triage-v0001") == []
    assert _learns_from(world, artifact, monkeypatch) == {
        "reward": "triage-v0001", "train": "triage-v0001", "parents": ["dataset/d2", "model/triage-v0001"],
    }  # fmt: skip


def _learns_from(world, snapshot, monkeypatch):
    """Which models the steps of a turn with this snapshot start from; what takes long is stood in for."""
    seen = {}
    done = {**world.done(), "snapshot": snapshot}
    found = ModelVersion(version="v", flow="triage", folder=world.home, content_hash="c")
    for step, name, result in (
        ("reward", "train_reward", RewardModels(id="r", folds=[])),
        ("train", "finetune", RewardModels(id="stands for a result", folds=[])),
    ):

        def resolve(_lake, _config, version, step=step):
            seen[step] = version
            return found

        monkeypatch.setattr(learn, "resolve", resolve)
        monkeypatch.setattr(learn, name, lambda *_, result=result, **__: result)
        monkeypatch.setattr(learn, "_examples", lambda *_: [])
        getattr(learn, step)(world.context(), done, Silent())
    monkeypatch.setattr(learn, "register_model", lambda *_, parents, **__: seen.update(parents=parents) or found)
    trained = {"out": str(world.home), "first_loss": 1.0, "last_loss": 0.5}
    learn.register(world.context(), {**done, "train": trained, "curate": {"id": "d2"}}, Silent())
    return seen


def test_a_turn_that_has_not_trained_ends_and_one_that_has_goes_on_to_the_gate(world, template, tmp_path):
    assert forget(world.config, world.ann).ended_turns == []
    assert world.turn.read("finished") is None
    early = template.copy(tmp_path / "early")
    early.lake.store.delete([early.turn.key(step_key(name)) for name in ("train", "register", "evaluate")])
    assert forget(early.config, early.ann).ended_turns == ["triage/turn-0001"]
    assert early.turn.read("finished")["decision"] == "inconclusive"
    assert open_turn(early.lake.store, early.config).turn_id == "turn-0002"


def test_what_an_old_turn_was_built_on_is_gone_and_says_so(world):
    at = world.done()["snapshot"]["tables"]["inferences"]
    forget(world.config, world.ann)
    with pytest.raises(NotFoundInLakeError, match="because rows of it were erased"):
        world.lake.read("inferences", at=at)


def test_manifests_stay_and_can_be_matched_with_nobody(world):
    dataset = world.done()["curate"]["id"]
    manifest = read_manifest(world.lake, "dataset", dataset)
    own = {row[0]: row[2] for row in manifest.data["rows"] if set(row[1]) & world.ids(world.ann)}
    row_id, mac = next(iter(own.items()))
    subject = world.subject(world.ann)
    assert world.keyring.row_mac(world.lake.store, subject, row_id) == mac
    forget(world.config, world.ann)
    assert read_manifest(world.lake, "dataset", dataset) == manifest
    assert not world.lake.store.exists(f"keys/subjects/{subject}")
    fresh = type(world.keyring)(world.home)
    assert fresh.row_mac(ObjectStore(world.lake.uri), subject, row_id) != mac


def test_every_store_tells_how_it_is_going(world):
    told = []

    class Progress(Silent):
        def start(self, name, text=""):
            told.append(name)

        def finish(self, text=""):
            told.append(text)

    forget(world.config, world.ann, progress=Progress())
    assert told[0] == "ingestion"
    assert told[told.index("inferences") + 1] == "6 removed"
    assert told[-2:][0] == "files"
    assert "files deleted" in told[-1]


def test_the_draft_of_an_erased_case_goes_and_another_stays(tmp_path):
    none = frozenset()
    found = Trace("s", utcnow(), none, none, none, none, frozenset({"case-1"}), frozenset({"case-1"}), none, none)
    (tmp_path / "run").mkdir()
    for name in ("case-1", "case-2"):
        (tmp_path / "run" / f"{name}.yaml").write_text("messages: []")
    assert erase_work(tmp_path, found, dry=True) == 1
    assert erase_work(tmp_path, found) == 1
    assert [path.stem for path in (tmp_path / "run").iterdir()] == ["case-2"]


def test_pairs_of_the_reward_model_go_with_who_asked_judged_or_answered(tmp_path):
    none = frozenset()
    found = Trace("s", utcnow(), frozenset({"a1"}), none, none, none, none, frozenset({"a1"}), none, none)
    folder = tmp_path / "turns" / "flow" / "t1" / "candidates"
    folder.mkdir(parents=True)
    rows = [
        {"inference_id": "a1", "other_id": None, "raters": ["x"]},
        {"inference_id": "b", "other_id": "a1", "raters": []},
        {"inference_id": "c", "other_id": None, "raters": ["x", "s"]},
        {"inference_id": "d", "other_id": "e", "raters": ["x"]},
    ]  # fmt: skip
    path = folder / "preferences.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert erase_work(tmp_path, found) == 3
    assert [json.loads(line)["inference_id"] for line in path.read_text().splitlines()] == ["d"]
