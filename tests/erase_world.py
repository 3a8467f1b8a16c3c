"""A flow with three people, a finished dataset and an open turn, made by the real functions without any engine."""

import asyncio
import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from uuid6 import uuid7

from flywheel.capture.events import to_event
from flywheel.capture.ingest import ingest_all
from flywheel.capture.outbox import Outbox, outbox_folder
from flywheel.capture.ship import ship_once
from flywheel.config import EvaluationConfig, FilterConfig, FlywheelConfig, LabelsConfig, QualityConfig
from flywheel.evaluation.run import evaluate
from flywheel.inference.generate import Completion
from flywheel.judging.judge import Pair, ScorerJudge
from flywheel.judging.store import judge_pairs
from flywheel.lake.keys import Keyring
from flywheel.lake.manifests import Manifest, write_manifest
from flywheel.lake.tables import Lake, open_lake
from flywheel.quality.known import known_groups
from flywheel.quality.score import ScoreResult
from flywheel.records import Consent, EvalCase, Feedback, Inference, Message, ShadowPair, Signal, feedback_id, utcnow
from flywheel.review import labels as review
from flywheel.rollout import routing
from flywheel.telemetry import Silent
from flywheel.workflow.turns import learn, prepare
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.steps import TurnHandle, open_turn
from flywheel.workflow.turns.turn import step_key

MASTER_KEY = "00" * 31 + "07"
"""Fixed, because label splits hash the pseudonyms: nobody is held out with this one."""
PEOPLE = ("ann-raw-id", "ben-raw-id", "cleo-raw-id")
ANN, BEN, CLEO = PEOPLE
BOTH = ["training", "evaluation"]
TABLES = ("inferences", "feedback", "consents", "labels", "signals", "shadow_pairs", "examples", "eval_cases",
          "eval_results", "judgements")  # fmt: skip


def as_text(row: dict) -> str:
    """To compare rows."""
    return json.dumps(row, default=str, sort_keys=True)


def word(user: str) -> str:
    """What only this person's texts hold."""
    return user.split("-", maxsplit=1)[0] + "secretword"


def _filler(user: str, n: int) -> str:
    """Words enough that no two questions are near duplicates."""
    digest = hashlib.sha256(f"{user}{n}".encode()).hexdigest()
    return " ".join(digest[start : start + 4] for start in range(0, 40, 4))


def inference(user: str, n: int, **more) -> Inference:
    values = {
        "inference_id": str(uuid7()), "flow": "triage", "ts": utcnow(), "subject": user, "consent": BOTH,
        "session_id": f"session {n} of {user}", "model_version": "triage-v0001", "finish_reason": "stop",
        "messages": [Message(role="user", content=f"{word(user)} asks {_filler(user, n)}")],
        "choices": [json.dumps({"intent": f"answer {n} to {word(user)}"})],
    }  # fmt: skip
    return Inference(**{**values, **more})


def feedback(row: Inference, user: str = "", **more) -> Feedback:
    values = {
        "feedback_id": feedback_id("default", row.inference_id, str(uuid7())), "inference_id": row.inference_id,
        "flow": row.flow, "ts": utcnow(), "subject": user, "kind": "thumbs", "value": 1,
    }  # fmt: skip
    return Feedback(**{**values, **more})


def correction(row: Inference, user: str, **more) -> Feedback:
    text = json.dumps({"intent": f"{word(user)} corrects"})
    return feedback(row, user, kind="correction", value=None, text=text, **more)


def pair(row: Inference) -> ShadowPair:
    return ShadowPair(
        inference_id=row.inference_id, flow=row.flow, ts=row.ts, subject=row.subject, candidate="triage-v0002",
        live_version="triage-v0001", live_answer=row.choices[0], candidate_answer=f"shadow for {word(row.subject)}",
    )  # fmt: skip


def consent(user: str) -> Consent:
    return Consent(subject=user, purpose="third_party", ts=utcnow(), state="granted")


@dataclass
class World:
    """The flow, and what is known of it without asking the code under test."""

    home: Path
    rows: dict[str, list[Inference]] = field(default_factory=dict)
    ann, ben, cleo = PEOPLE
    word = staticmethod(word)
    inference = staticmethod(inference)
    feedback = staticmethod(feedback)
    pair = staticmethod(pair)

    def __post_init__(self) -> None:
        self.config = FlywheelConfig(
            home=self.home,
            labels=LabelsConfig(tune_share=0.001, audit_share=0.001, gate_share=0.001),
            quality=QualityConfig(min_examples=1, filter=FilterConfig(enabled=False)),
            evaluation=EvaluationConfig(resamples=200),
        )
        self.lake: Lake = open_lake(self.config)
        self.keyring = Keyring(self.home)

    @property
    def turn(self) -> TurnHandle:
        return TurnHandle(self.lake.store, "triage", "turn-0001")

    def copy(self, home: Path) -> "World":
        """The same world in another folder."""
        shutil.copytree(self.home, home)
        return World(home, self.rows)

    def subject(self, user: str) -> str:
        return self.keyring.pseudonym("default", user)

    def record(self, *rows: Inference | Feedback | Consent | ShadowPair) -> None:
        outbox = Outbox.open(outbox_folder(self.config), group_commit_ms=0)
        asyncio.run(outbox.append([to_event(row, flow="triage") for row in rows]))
        outbox.close()

    def ship(self) -> None:
        ship_once(outbox_folder(self.config), self.lake.store, self.config.capture, self.keyring)

    def ingest(self) -> None:
        ingest_all(self.lake, self.config, self.keyring)

    def context(self) -> Context:
        work = self.home / "turns" / "triage" / self.turn.turn_id
        return Context(self.lake, self.config, self.keyring, self.turn, work)

    def contents(self):
        """Every file under the home, Parquet also as its rows."""
        for path in sorted(item for item in self.home.rglob("*") if item.is_file()):
            data = path.read_bytes()
            if path.suffix == ".parquet":
                rows = pq.read_table(path, partitioning=None).to_pylist()
                data += json.dumps(rows, default=str, ensure_ascii=False).encode()
            yield path.relative_to(self.home).as_posix(), data

    def traces(self, user: str) -> set[tuple[str, str]]:
        """Files with the user's id, what only they wrote, or (but for the ledger of erasures) their pseudonym."""
        words = {"id": user.encode(), "text": word(user).encode(), "pseudonym": self.subject(user).encode()}
        found = set()
        for name, data in self.contents():
            for kind, text in words.items():
                in_ledger = kind == "pseudonym" and name.startswith("lake/erasures/")
                if text in data + name.encode() and not in_ledger:
                    found.add((name, kind))
        return found

    def stored(self) -> dict[str, set[str]]:
        """Every row of every table."""
        return {table: {as_text(row) for row in self.lake.read(table).to_pylist()} for table in TABLES}

    def ids(self, user: str) -> set[str]:
        return {row.inference_id for row in self.rows[user]}

    def done(self) -> dict:
        names = ("snapshot", "split", "candidates", "reward", "score", "sweep", "curate", "scan", "train", "register",
                 "evaluate", "shadow")  # fmt: skip
        found = {name: self.turn.read(step_key(name)) for name in names}
        return {name: artifact for name, artifact in found.items() if artifact is not None}


def build(home: Path) -> World:
    """Traffic, reactions, labels, a turn up to its evaluation, and what is still on its way."""
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "master").write_text(MASTER_KEY)
    (home / "keys" / "master").chmod(0o600)
    world = World(home)
    world.rows = {user: [inference(user, n) for n in range(6)] for user in PEOPLE}
    everything = [*(consent(user) for user in PEOPLE)]
    for user in PEOPLE:
        rows = world.rows[user]
        everything += [*rows, pair(rows[0]), *(feedback(row) for row in rows[:4])]
        everything += [correction(row, user) for row in rows[4:]]
    everything += [correction(world.rows[BEN][5], ANN), feedback(world.rows[ANN][5], BEN)]
    world.record(*everything)
    world.ship()
    _register(world, "triage-v0001")
    live = routing.Variant(version="triage-v0001", folder="/models/v1")
    routing.publish(world.lake.store, routing.bootstrap("triage", live, actor="test"))
    world.ingest()
    _label(world)
    _run_turn(world)
    _leave_on_the_way(world)
    return world


def _label(world: World) -> None:
    stored = {row.inference_id: row for row in world.lake.records("inferences", Inference)}
    made = [
        review.make_label(stored[row.inference_id], annotator="reviewer", kind="accept", split="gate")
        for user in PEOPLE
        for row in world.rows[user][:2]
    ]
    review.add_labels(world.lake, made)
    for label in (made[0], made[2]):
        review.retract(world.lake, label)
    for user in (ANN, BEN):
        review.skip(world.lake, "triage", "reviewer", world.rows[user][2].inference_id)


def _run_turn(world: World) -> None:
    turn = open_turn(world.lake.store, world.config)
    assert turn == world.turn
    context, done = world.context(), {}

    def step(name, artifact):
        done[name] = turn.write(step_key(name), artifact)

    step("snapshot", prepare.snapshot(context, done, Silent()))
    split = prepare.split(context, done, Silent())
    split["excluded"][
        "subjects"
    ] = {}  # so that labelled people are in the dataset too: what is erased is all one world
    step("split", split)
    step("candidates", learn.candidates(context, done, Silent()))
    step("reward", {"id": "reward-none", "folds": [], "reason": "too few"})
    rows = [
        Signal(inference_id=row.inference_id, signal="agreement", version="s1", value=0.5)
        for user in PEOPLE
        for row in world.rows[user]
    ]
    world.lake.append("signals", rows, app="score", version=1, flow="triage")
    scored = ScoreResult(version="s1", table_version=world.lake.version("signals") or 0, rows=len(rows), reused=False)
    step("score", scored.model_dump(mode="json"))
    step("sweep", {"used": False, "why": "few labels", "filter": world.config.quality.filter.model_dump(mode="json")})
    step("curate", learn.curate(context, done, Silent()))
    known_groups(world.lake, world.config, FilterConfig(), learn.built(done).rows())  # the world's own filter is off
    step("scan", learn.scan(context, done, Silent()))
    step("train", {"dropped": dict.fromkeys(_examples(world, ANN) | _examples(world, BEN), "too_long")})
    _register(world, "triage-v0002", f"dataset/{done['curate']['id']}", "model/triage-v0001")
    step("register", {"version": "triage-v0002", "folder": "/models/v2", "run_id": None})
    run = evaluate(world.lake, world.config, version="triage-v0002", suites=["random", "failures"], generate=_answer)
    slices = {result.slice: {"n": 1} for result in run.results}
    suite = {
        "n": 6,
        "live": 0.5,
        "candidate": 0.9,
        "difference": 0.4,
        "interval": [0.3, 0.5],
        "unpaired": 0,
        "failed": 0,
    }
    changed = {"newly_broken": [], "fixed": sorted(result.case_id for result in run.results)}
    step(
        "evaluate",
        {
            "suites": {"random": suite}, "slices": {"random": {**slices, "shared": {"n": 3}}}, "behaviour": {},
            "changed": {"random": changed}, "run_ids": ["eval-1", run.run_id], "cases": "cases-1",
        },
    )  # fmt: skip
    report = context.config.home_path() / "reports" / "triage" / "turn-0001.html"
    report.parent.mkdir(parents=True)
    report.write_text(f"a page about {word(ANN)} and {word(BEN)}")
    _judge(world, run.results)
    (context.work / "train").mkdir()
    (context.work / "train" / "examples.npz").write_bytes(f"encoded {word(ANN)}".encode())


def _judge(world: World, results) -> None:
    """About everybody: an answer in the shadow, and a case."""
    judge = ScorerJudge("judge-length", lambda _, answers: [float(len(text)) for text in answers])
    cases = {case.case_id: case for case in world.lake.records("eval_cases", EvalCase)}
    asked = [(rows[0].inference_id, world.subject(user)) for user, rows in world.rows.items()]
    asked += [(result.case_id, cases[result.case_id].subject) for result in results if result.suite == "random"]
    pairs = [Pair(item, [], f"answer {n}", "live", "triage-v0002", "triage-v0001", subject)
             for n, (item, subject) in enumerate(asked)]  # fmt: skip
    judge_pairs(world.lake, "triage", judge, pairs)


def _leave_on_the_way(world: World) -> None:
    """In landing: a row that cannot be stored, and a reaction that waits. In the outbox: an answer with a comment."""
    bad = [inference(user, 7).model_copy(update={"inference_id": f"no-uuid {word(user)}"}) for user in (ANN, BEN)]
    world.record(*bad, feedback(inference(BEN, 8), ANN))
    world.ship()
    world.ingest()
    for user in (ANN, BEN):
        row = inference(user, 9)
        world.record(row, feedback(row, kind="comment", value=None, text=f"{word(user)} comments"))


def _examples(world: World, user: str) -> set[str]:
    rows = world.lake.read("examples", columns=["example_id", "inference_ids"]).to_pylist()
    return {row["example_id"] for row in rows if set(row["inference_ids"]) & world.ids(user)}


def _register(world: World, version: str, *parents: str) -> None:
    common = {"flow": "triage", "code_version": "0", "config_hash": "c", "seed": 0}
    write_manifest(world.lake, Manifest(kind="model", id=version, parents=list(parents), **common))


def _answer(_version, conversations, *, on_progress=None, **_settings):
    if on_progress:
        on_progress(len(conversations))
    return [Completion(f"seen: {talk[-1].content}", "stop", 3, 1, 5.0) for talk in conversations]
