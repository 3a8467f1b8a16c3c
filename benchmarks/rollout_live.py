"""Are planted regressions of real models taken back on live traffic, how soon, and how many users met them?

The product as `flywheel up` starts it: gateway, capture, controller, vLLM engines, a lake on disk. The live model is
the demo's; each candidate is the same model spoilt by a short training, or its engine is hurt. The gate's word is given
to all of them, so that only live traffic can tell. Simulated users ask and react over HTTP, a tenth of what they ask
holds an order to the model.

    python benchmarks/rollout_live.py [--only NAME …] [--rate 8] [--seed 0] [--short]

Results: ``rollout-live.json``, written after every regression; with --only, the others' rows stay. About two minutes
each, more where users' reactions decide.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import httpx
import psutil
import results_file
from rollout_live_plants import ORDER, ORDERED, PLANTS, Plant, spoilt

from flywheel.config import FlywheelConfig
from flywheel.demo import base_model, product
from flywheel.demo.models import first_model, tiny
from flywheel.demo.run import demo_config
from flywheel.demo.traffic import MODEL
from flywheel.demo.users import Population, Request
from flywheel.inference.engines import app_name
from flywheel.lake.tables import Lake, open_lake
from flywheel.operate import processes
from flywheel.rollout import history, promotion, routing
from flywheel.rollout.machine import take
from flywheel.rollout.machine.controller import read_told
from flywheel.rollout.routing import Routing, Variant
from flywheel.telemetry import Silent
from flywheel.training.finetune import finetune
from flywheel.workflow.cluster import connected, free_port

FLOW = "triage"
SHARE = 0.5
LESSONS = 3_000
MAX_TOKENS = 160
GOOD = 60
"""Answers of a candidate before its engine is hurt."""
PATIENCE_S = {"operational": 180.0, "quality": 1_200.0, "placement": 240.0}
OPERATIONAL_S = 30.0
OVERDUE = 1.5
SIGNALS = {"killed": signal.SIGKILL, "hung": signal.SIGSTOP}
SETTINGS: dict[str, Any] = {
    "engine.max_model_len": 512,
    "rollout.canary_steps": [SHARE],
    "rollout.step.min_minutes": 60,
    "rollout.step.placement_s": 150,
    # Simulated users react within a second; rows are in the lake within a few.
    "rollout.live.react_s": 5,
    "rollout.live.settle_s": 5,
    "rollout.live.late_s": 10,
    "rollout.live.min_propensity": SHARE,
    "rollout.live.deciders": ["checks"],
    "rollout.live.max_slices": 10,
}


def main() -> None:
    """Run and write ``results/rollout-live.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[one.name for one in PLANTS])
    parser.add_argument("--rate", type=float, default=8.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="keep everything here instead of a temporary folder")
    parser.add_argument("--short", action="store_true", help="one regression; prints, writes nothing")
    options = parser.parse_args()
    plants = [one for one in PLANTS if one.name in options.only] if options.only else list(PLANTS)
    folder = options.home or Path(tempfile.mkdtemp(prefix="rollout-live-"))
    try:
        run(folder, plants[:1] if options.short else plants, options)
    finally:
        if options.home is None:
            shutil.rmtree(folder, ignore_errors=True)


def run(home: Path, plants: list[Plant], options: argparse.Namespace) -> None:
    """Teach every candidate, then bring one after another before the users of one running product."""
    given = {"home": str(home), "gateway.port": free_port(), "cluster.dashboard_port": free_port(), **SETTINGS}
    settings = [f"{name}={json.dumps(value)}" for name, value in given.items()]
    config, progress = demo_config(None, settings, model=base_model.TINY, sabotage=False), Silent()
    base = tiny(config, progress)
    folders = taught(config, base, plants)
    live = first_model(config, base_model.TINY, progress)
    running = processes.up(config, model=live, progress=progress)
    rows = others(plants)
    try:
        for plant in plants:
            rows.append(Trial(config, running.url, plant, folders[plant.name], options).run())
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            if not options.short:
                results_file.write("rollout-live", options.seed, rows, targets(rows))
    finally:
        processes.down(config)


def others(plants: list[Plant]) -> list[dict[str, Any]]:
    """Rows of an earlier run about other plants."""
    path, again = results_file.RESULTS / "rollout-live.json", {plant.name for plant in plants}
    known = json.loads(path.read_text())["rows"] if path.exists() else []
    return [row for row in known if row["plant"] not in again]


def taught(config: FlywheelConfig, base: Path, plants: list[Plant]) -> dict[str, Path]:
    """A model folder for each plant; those whose engine is hurt are the live model itself."""
    examples = product.pretraining_examples(LESSONS, config.seed + 5)
    settings = base_model.TURN.model_copy(
        update={
            "epochs": 1, "num_workers": config.training.num_workers, "cpus_per_worker": config.training.cpus_per_worker,
        }
    )  # fmt: skip
    made: dict[str, Path] = {}
    with connected(config):
        for number, plant in enumerate(plants):
            out = config.home_path() / "models" / f"plant-{number}"
            if plant.change is None:
                shutil.copytree(base, out, dirs_exist_ok=True)
                if plant.fault == "no weights":
                    (out / "model.safetensors").write_bytes(b"")
            else:
                finetune(
                    settings, base=base, examples=spoilt(examples, plant), out=out,
                    storage=config.home_path() / "models" / "work", run_name=f"plant-{number}", seed=config.seed,
                )  # fmt: skip
            made[plant.name] = out
            print(f"taught: {plant.name}", flush=True)
    return made


@dataclass
class Trial:
    """One candidate before users, from the gate's word until it is gone."""

    config: FlywheelConfig
    url: str
    plant: Plant
    folder: Path
    options: argparse.Namespace
    onset: float | None = None
    quality: dict[str, Any] = field(default_factory=dict[str, Any])
    """The comparison that rested on most units."""
    lake: Lake = field(init=False)

    def __post_init__(self) -> None:
        self.lake = open_lake(self.config)

    def run(self) -> dict[str, Any]:
        """What happened."""
        version, live = f"plant-{self.folder.name.rpartition('-')[2]}", self.now.live.version
        promotion.record_verdict(
            self.lake, self.config, turn_id=version, candidate=version, live=live, verdict="promote", reasons=[],
            text="given to every plant",
        )  # fmt: skip
        with Users(self.url, rate=self.options.rate, seed=self.options.seed) as users:
            take.begin(
                self.lake, self.config, Variant(version=version, folder=str(self.folder)), reason="gate: promote"
            )
            begun = time.monotonic()
            with self._harm(version, users):
                end = self._watch(version)
            seconds = None if self.onset is None else time.monotonic() - self.onset
        time.sleep(6)  # the controller tells every five seconds what it saw
        self._note(version)
        if self.now.rollouts:  # not taken back in time
            take.back(self.lake, self.config, version, reason="end of the trial", actor="benchmark")
        _until(lambda: app_name(version) not in self._engines(), 60)
        return {
            "plant": self.plant.name,
            "kind": self.plant.kind,
            "guard": self.plant.found,
            "outcome": end,
            "by": self._reason(version),
            "seconds_from_onset": None if seconds is None or end != "taken back" else round(seconds, 1),
            "seconds_in_all": round(time.monotonic() - begun, 1),
            "answers_of_it_met_by_users": users.by_model.get(version, 0),
            "right_answers_of_it": users.right.get(version, 0),
            "right_of_the_live_model": round(users.right.get(live, 0) / max(1, users.by_model.get(live, 0)), 3),
            "requests": users.answered,
            "failed_requests": len(users.failed),
            "first_failure": users.failed[0][:200] if users.failed else None,
            "units": self.quality.get("units") or None,  # as last told, some seconds before the end; none told: unknown
            "planned_units": self.quality.get("planned_units"),
        }

    @property
    def now(self) -> Routing:
        """The routing in force."""
        found = routing.current(self.lake.store, FLOW)
        assert found is not None
        return found

    def _harm(self, version: str, users: Users) -> contextlib.AbstractContextManager[object]:
        number = SIGNALS.get(self.plant.fault or "")
        return Harm(self, version, users, number) if number else contextlib.nullcontext()

    def _watch(self, version: str) -> str:
        deadline = time.monotonic() + PATIENCE_S[self.plant.found]
        while time.monotonic() < deadline:
            self._note(version)
            state = self.now
            if state.live.version == version:
                return "promoted"
            if not any(one.version == version for one in state.rollouts):
                return "rejected in the shadow" if self.onset is None else "taken back"
            if any(one.version == version and one.paused == "capacity" for one in state.rollouts):
                return "never placed"
            if state.canaries and self.onset is None and self.plant.fault is None:
                self.onset = time.monotonic()
                deadline = self.onset + PATIENCE_S[self.plant.found]
            time.sleep(0.25)
        return "missed"

    def _engines(self) -> set[str]:
        told = httpx.get(f"http://127.0.0.1:{self.config.cluster.dashboard_port}/api/serve/applications/", timeout=10)
        return set(told.json()["applications"]) if told.is_success else set()

    def _note(self, version: str) -> None:
        told = read_told(self.lake, FLOW) or {"sights": []}
        seen = [one["quality"] for one in told["sights"] if one["version"] == version and one["quality"]]
        self.quality = max([self.quality, *seen], key=lambda one: one.get("units", -1))

    def _reason(self, version: str) -> str:
        rows = [row for row in history.decisions(self.lake, FLOW) if row.candidate == version and row.action != "gate"]
        return rows[-1].text if rows else ""


class Harm:
    """Sends an engine's processes a signal again and again, from ``GOOD`` answers of it on; in the end they may go."""

    def __init__(self, trial: Trial, version: str, users: Users, number: signal.Signals) -> None:
        self._trial, self._version, self._users, self._number = trial, version, users, number
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        _send(self._version, signal.SIGCONT)

    def _run(self) -> None:
        while self._users.by_model.get(self._version, 0) < GOOD:
            if self._over.wait(0.2):
                return
        self._trial.onset = time.monotonic()
        while not self._over.is_set():
            _send(self._version, self._number)
            self._over.wait(2.0)


def _send(version: str, number: signal.Signals) -> None:
    """To an engine: the replica, found by what it is called, and all that descend from it."""
    for process in psutil.process_iter(["cmdline"]):
        if any(f"{app_name(version)}:" in part.replace("#", ":") for part in process.info["cmdline"] or []):
            with contextlib.suppress(psutil.NoSuchProcess):
                for one in [*process.children(recursive=True), process]:
                    one.send_signal(number)


class Users:
    """Simulated people who ask at a steady rate and react, whatever the models do."""

    def __init__(self, url: str, *, rate: float, seed: int) -> None:
        self._url, self._rate = url, rate
        self._population = Population(
            next(_seeds) + 1_000 * seed,
            users=20_000,
            hostile=0,
            no_consent=0,
            new_share=0,
            templates_of=lambda _: "training",
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)
        self.answered = 0
        self.failed: list[str] = []
        self.by_model: dict[str, int] = {}
        self.right: dict[str, int] = {}

    def __enter__(self) -> Users:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _all(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(base_url=self._url, timeout=90) as client:
            begun = time.monotonic()
            for number, request in enumerate(self._population.requests(10**6)):
                if self._stop.is_set():
                    break
                await asyncio.sleep(max(0.0, begun + number / self._rate - time.monotonic()))
                task = asyncio.create_task(self._one(client, request, ordered=number % round(1 / ORDERED) == 0))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _one(self, client: httpx.AsyncClient, request: Request, *, ordered: bool) -> None:
        messages = [message.model_dump(exclude_none=True) for message in request.ticket.messages]
        if ordered:
            messages[-1]["content"] += ORDER
        body = {
            "model": MODEL, "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0,
            "metadata": {"intent": request.ticket.intent},
        }  # fmt: skip
        try:
            answer = await client.post("/v1/chat/completions", headers=request.headers, json=body)
        except httpx.HTTPError as error:
            self.failed.append(repr(error))
            return
        if answer.status_code != 200:
            self.failed.append(answer.text)
            return
        told = answer.json()
        self.answered += 1
        self.by_model[told["model"]] = self.by_model.get(told["model"], 0) + 1
        text, ticket = told["choices"][0]["message"]["content"] or "", told["flywheel"]
        self.right[told["model"]] = self.right.get(told["model"], 0) + (text.strip() == request.ticket.answer)
        for number, reaction in enumerate(self._population.react(request, text)):
            said = {name: value for name, value in dataclasses.asdict(reaction).items() if value is not None}
            about = {key: ticket[key] for key in ("inference_id", "feedback_token")}
            with contextlib.suppress(httpx.HTTPError):
                await client.post(
                    "/v1/feedback",
                    json={**about, "user": request.user.user_id, "idempotency_key": str(number), **said},
                )


_seeds = itertools.count(1)


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All taken back or never shown; failures within seconds, quality within the planned units; nobody noticed."""
    gone = [row for row in rows if row["outcome"] in {"taken back", "rejected in the shadow", "never placed"}]
    missed = [row["plant"] for row in rows if row not in gone]
    operational = [row for row in gone if row["guard"] == "operational" and row["seconds_from_onset"] is not None]
    seconds = [row["seconds_from_onset"] for row in operational]
    slow = [row["plant"] for row in operational if row["seconds_from_onset"] > OPERATIONAL_S]
    ratios = [row["units"] / row["planned_units"] for row in gone if row["guard"] == "quality" and row["units"]]
    failed = sum(row["failed_requests"] for row in rows)
    return [
        _target("regressions that were taken back or never shown", float(len(rows)), float(len(gone)), missed),
        _target("most seconds from onset to rollback, operational", OPERATIONAL_S, max(seconds, default=0.0), slow),
        _target(
            "largest share of the planned units, quality", OVERDUE, round(max(ratios, default=0.0), 3),
            [] if max(ratios, default=0.0) <= OVERDUE else ["more units than planned"],
        ),
        _target("failed requests of users", 0.0, float(failed), [f"{failed} requests"] if failed else []),
    ]  # fmt: skip


def _target(name: str, target: float, measured: float, wrong: list[str]) -> dict[str, Any]:
    why = ", ".join(wrong) or None
    return {"name": name, "target": target, "measured": measured, "met": not wrong, "why_not": why}


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.5)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
