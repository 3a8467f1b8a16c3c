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
from flywheel.demo.reviewer import Reviewer, TruthBook
from flywheel.demo.rounds import Product
from flywheel.demo.users import HOSTILE_SHARE, SABOTAGE_LEVEL, Population
from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.run import evaluate
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import Lake, open_lake
from flywheel.operate import processes
from flywheel.registry.tracking import tracking_uri
from flywheel.review.splits import label_split
from flywheel.rollout.routing import Variant
from flywheel.telemetry import Progress
from flywheel.workflow.cluster import connected


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
    turns: int = 1,
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
        turns: rounds of traffic, labels and a turn, one after another; each later one has half of the traffic.
        progress: told about every step.

    Returns:
        The last turn's result, plus ``demo``: each round, traffic, labels, fidelity of surrogates, places, seconds.
    """
    started = time.monotonic()
    config, scale = (
        demo_config(config_path, overrides, model=model, sabotage=sabotage),
        SCALES.get(model, GENERAL_SCALE),
    )
    _clean(config)
    lake, book = open_lake(config), TruthBook()
    population = _population(config, sabotage=sabotage)
    config, starting = _models(config, model, progress)
    progress.start("up")
    running = processes.up(config, model=starting, progress=progress)
    try:
        progress.finish(f"{running.url} serves {running.live}")
        _import_cases(lake, config, scale.old_cases, progress)
        _import_taught(lake, config, scale.taught, progress)
        users = Product(config, lake, running.url, population, book, Reviewer(book, seed=config.seed), progress)
        rounds = [
            users.play(scale.requests if n == 0 else scale.requests // 2, f", round {n + 1} of {turns}" if n else "")
            for n in range(turns)
        ]
        after = users.ask_again(scale.fresh_requests)
        result, first = rounds[-1].turn, rounds[0]
        fidelity = _surrogates_against_raw(lake, config, result["live"], book, progress)
    finally:
        if not keep:
            processes.down(config)
    return {
        **result,
        "demo": {
            "sabotage": sabotage,
            "traffic": {
                "requests": first.traffic.sent,
                "reactions": first.traffic.reactions,
                "right": first.traffic.accuracy,
            },
            "labels": first.labels,
            "traffic_during_shadow": {
                "requests": sum(one.during_shadow.sent for one in rounds),
                "error": next((str(one.shadow_error) for one in rounds if one.shadow_error), None),
            },
            "rounds": [one.summary() for one in rounds],
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
