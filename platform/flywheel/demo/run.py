"""``flywheel demo``: one whole turn on simulated product traffic, from an empty folder to a verdict."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from flywheel.capture.importer import import_cases, import_interactions
from flywheel.capture.readers import Reading
from flywheel.config import FlywheelConfig, load
from flywheel.config.loader import parse_overrides
from flywheel.demo import base_model, product
from flywheel.demo.models import first_model, taught, tiny
from flywheel.demo.reviewer import ANNOTATOR, Reviewer, TruthBook
from flywheel.demo.traffic import Background, TrafficReport, send
from flywheel.demo.users import HOSTILE_SHARE, SABOTAGE_LEVEL, Population
from flywheel.errors import CaptureError
from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.run import evaluate
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import Lake, open_lake
from flywheel.operate import processes
from flywheel.registry.tracking import tracking_uri
from flywheel.review.labels import add_labels, make_label
from flywheel.review.queue import QueueItem
from flywheel.review.splits import label_split
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.telemetry import Progress
from flywheel.workflow.cluster import connected
from flywheel.workflow.exchange.labelling import queue
from flywheel.workflow.turns.turn import run_turn

INGEST_TIMEOUT_S = 60


@dataclass(frozen=True)
class Scale:
    """How much happens in the demo."""

    requests: int
    old_cases: int
    taught: int
    """Messages of the first model's training that a turn may rehearse."""
    fresh_requests: int


SCALES = {base_model.TINY: Scale(requests=4_000, old_cases=2_400, taught=1_000, fresh_requests=120)}
GENERAL_SCALE = Scale(requests=1_600, old_cases=800, taught=400, fresh_requests=60)
"""A general model answers and learns a hundred times slower than tiny."""


def run_demo(
    config_path: Path | None,
    overrides: list[str],
    *,
    model: str = base_model.TINY,
    sabotage: bool,
    keep: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Run the demo in its own home (wiped first, but for built models).

    Args:
        config_path: a configuration instead of the demo's own.
        overrides: ``section.key=value``.
        model: ``tiny``, or a general model (``smollm2``, a folder, a Hugging Face id) that is first taught the
            product's old intents.
        sabotage: 40 % of the feedback is hostile and the filter is off.
        keep: leave everything running at the end.
        progress: told about every step.

    Returns:
        The turn's result, plus ``demo``: traffic, labels, fidelity of surrogates, places, seconds.
    """
    started = time.monotonic()
    config, scale = (
        demo_config(config_path, overrides, model=model, sabotage=sabotage),
        SCALES.get(model, GENERAL_SCALE),
    )
    _clean(config)
    lake, book = open_lake(config), TruthBook()
    population = _population(config, sabotage=sabotage)
    config, first = _models(config, model, progress)
    progress.start("up")
    running = processes.up(config, model=first, progress=progress)
    try:
        progress.finish(f"{running.url} serves {running.live}")
        _import_cases(lake, config, scale.old_cases, progress)
        _import_taught(lake, config, scale.taught, progress)
        before = _traffic(running.url, population, book, scale.requests, progress)
        _wait_for_capture(lake, config, before, progress)
        labels = _label(lake, config, Reviewer(book, seed=config.seed), progress)

        def in_shadow() -> bool:
            truth = routing.current(lake.store, config.flow)
            return truth is not None and bool(truth.shadows)

        with Background(running.url, population, book, wanted=in_shadow) as traffic:
            result = run_turn(config, progress=progress)
        after = _fresh_traffic(running.url, population, book, scale.fresh_requests, progress)
        fidelity = _surrogates_against_raw(lake, config, result["live"], book, progress)
    finally:
        if not keep:
            processes.down(config)
    return {
        **result,
        "demo": {
            "sabotage": sabotage,
            "traffic": {"requests": before.sent, "reactions": before.reactions, "right": before.accuracy},
            "labels": labels,
            "traffic_during_shadow": {"requests": traffic.report.sent, "error": str(traffic.error or "") or None},
            "fresh_traffic": {"requests": after.sent, "right": after.accuracy, "model": result["live"]},
            "surrogates": fidelity,
            "lake": config.lake_uri(),
            "mlflow": tracking_uri(config),
            "home": str(config.home_path()),
            "running": running.url if keep else None,
            "seconds": round(time.monotonic() - started, 1),
        },
    }


def demo_config(
    path: Path | None, overrides: list[str], *, model: str = base_model.TINY, sabotage: bool
) -> FlywheelConfig:
    """The demo's configuration: the shipped one, or the user's, with overrides on top."""
    data = resources.files("flywheel.demo") / "data"
    names = data / "names.txt"
    given = parse_overrides(overrides)
    given.setdefault("privacy.names_file", str(names))
    if path is None and model == base_model.TINY:
        turn = base_model.TURN.model_dump(mode="json", exclude_unset=True)
        given = {**{f"training.{key}": value for key, value in turn.items()}, **given}
    if sabotage:
        given["quality.filter.enabled"] = False
    shipped = "demo.yaml" if model == base_model.TINY else "demo-general.yaml"
    return load(FlywheelConfig, path or Path(str(data / shipped)), given)


def _models(config: FlywheelConfig, name: str, progress: Progress) -> tuple[FlywheelConfig, Variant]:
    """The live model. Beside a general one, reward models start from tiny: there are many, and small ones do."""
    if name == base_model.TINY:
        return config, first_model(config, name, progress)
    reward = config.quality.reward
    if reward.base is None:
        reward = reward.model_copy(update={"base": str(tiny(config, progress))})
    config = config.model_copy(update={"quality": config.quality.model_copy(update={"reward": reward})})
    return config, first_model(config, str(taught(config, name, progress)), progress)


def _clean(config: FlywheelConfig) -> None:
    """The demo starts from nothing; what it built before (the base model) is kept."""
    processes.down(config)
    home = config.home_path()
    for entry in home.iterdir() if home.exists() else []:
        if entry.name != "models":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _population(config: FlywheelConfig, *, sabotage: bool) -> Population:
    """Users whose labels judge the candidate speak in templates that no training message uses."""
    keyring = Keyring(config.home_path())

    def templates(user: str) -> product.TemplateSet:
        subject = keyring.pseudonym(config.tenant, user)
        judged = label_split(subject, config.labels, config.seed) == "gate"
        return "evaluation" if judged else "training"

    hostile = SABOTAGE_LEVEL if sabotage else HOSTILE_SHARE
    return Population(config.seed + 7, hostile=hostile, templates_of=templates)


def _import_cases(lake: Lake, config: FlywheelConfig, count: int, progress: Progress) -> None:
    path = product.write_cases(config.home_path() / "old-intents.jsonl", count, seed=config.seed + 1)
    import_cases(lake, config, path, progress=progress)


def _import_taught(lake: Lake, config: FlywheelConfig, count: int, progress: Progress) -> None:
    examples = product.pretraining_examples(count, config.seed)
    path = product.write_taught(config.home_path() / "taught.jsonl", examples)
    reading = Reading(format="openai", consent=["training"], taught=True)
    import_interactions(lake, config, Keyring(config.home_path()), path, reading=reading, progress=progress)


def _traffic(url: str, population: Population, book: TruthBook, count: int, progress: Progress) -> TrafficReport:
    progress.start("traffic", "users ask")
    report = send(
        url,
        population,
        population.requests(count),
        book,
        on_progress=lambda so_far: progress.update(so_far.sent, count, f"{so_far.reactions:,} reactions"),
    )
    progress.finish(f"{report.sent:,} requests, {report.reactions:,} reactions; {report.accuracy:.1%} answered right")
    return report


def _wait_for_capture(lake: Lake, config: FlywheelConfig, report: TrafficReport, progress: Progress) -> None:
    """Everything acknowledged must be in the lake soon."""
    progress.start("capture", "waiting for the lake")
    begun = time.monotonic()
    while True:
        rows = lake.read("inferences", flow=config.flow, columns=["inference_id"]).num_rows
        events = lake.read("feedback", flow=config.flow, columns=["feedback_id"]).num_rows
        progress.update(rows + events, report.sent + report.reactions, "rows")
        seconds = time.monotonic() - begun
        if rows >= report.sent and events >= report.reactions:
            break
        if seconds > INGEST_TIMEOUT_S:
            log = config.home_path() / "run" / "supervisor.log"
            raise CaptureError(
                f"After {seconds:.0f} s only {rows:,} of {report.sent:,} answers and {events:,} of "
                f"{report.reactions:,} reactions are in the lake; look into {log}."
            )
        time.sleep(0.5)
    progress.finish(
        f"{rows:,} answers and {events:,} reactions in the lake, the last {seconds:.1f} s after its request"
    )


def _label(lake: Lake, config: FlywheelConfig, reviewer: Reviewer, progress: Progress) -> dict[str, int]:
    """The curated starter set first, then a random sample for each split."""
    progress.start("label", "a simulated reviewer")
    counts = {"starter": _review(lake, reviewer, queue(lake, config, source="starter"))}
    for split in ("tune", "audit", "gate"):
        items = [item for item in queue(lake, config) if item.split == split]
        counts[split] = _review(lake, reviewer, items)
    progress.finish(", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return counts


def _review(lake: Lake, reviewer: Reviewer, items: list[QueueItem]) -> int:
    labels = []
    for item in items:
        row = item.inference
        judged = reviewer.judge(row.inference_id, row.choices[row.choice_served])
        labels.append(
            make_label(
                row,
                annotator=ANNOTATOR,
                kind=judged.kind,
                correction=judged.correction,
                seconds=judged.seconds,
                split=item.split,
                origin=item.origin,
            )
        )
    return add_labels(lake, labels)


def _fresh_traffic(url: str, population: Population, book: TruthBook, count: int, progress: Progress) -> TrafficReport:
    progress.start("live", "users ask again")
    report = send(url, population, population.requests(count), book)
    progress.finish(f"{report.sent:,} fresh requests, {report.accuracy:.1%} answered right")
    return report


def _surrogates_against_raw(
    lake: Lake, config: FlywheelConfig, version: str, book: TruthBook, progress: Progress
) -> dict[str, Any]:
    """Does replacing personal data change accuracy? The live model on the primary suite's texts, both ways."""
    progress.start("surrogates", "against raw text")
    replaced = [case for case in load_cases(lake, config.flow, ["random"]) if case.inference_id in book]
    raw = [
        case.model_copy(update={"suite": "random-raw", "messages": book.tickets[case.inference_id or ""].messages})
        for case in replaced
    ]
    with connected(config):
        one = evaluate(lake, config, version=version, suites=["random"], seed=config.seed)
        other = evaluate(lake, config, version=version, suites=[], cases=raw, seed=config.seed)
    accuracy = one.suites["random"].passed / one.suites["random"].n
    accuracy_raw = other.suites["random-raw"].passed / other.suites["random-raw"].n
    changed = sum(a.messages != b.messages for a, b in zip(replaced, raw, strict=True))
    progress.finish(f"{accuracy:.1%} with surrogates, {accuracy_raw:.1%} with raw text ({changed} texts differ)")
    return {
        "cases": len(raw),
        "texts_changed": changed,
        "accuracy": accuracy,
        "accuracy_raw": accuracy_raw,
        "difference": accuracy - accuracy_raw,
    }
