"""The middle steps of a turn: score, search the filter, curate, scan, train, register."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.capture.consent import consented_ids, heard
from flywheel.capture.leaks import scan as scan_texts
from flywheel.config import FilterConfig, load
from flywheel.errors import LeakError, UsageError
from flywheel.lake.manifests import lineage, read_manifest
from flywheel.quality.build import BuildResult, build
from flywheel.quality.curate import Dataset, curate_rows, read_examples
from flywheel.quality.replay import learnt_before
from flywheel.quality.reward import RewardModels, train_reward
from flywheel.quality.rows import Exclusions
from flywheel.quality.score import ScoreResult
from flywheel.quality.score import score as score_rows
from flywheel.records import Consent, Example, Feedback, Inference, utcnow
from flywheel.registry.versions import register as register_model
from flywheel.registry.versions import resolve
from flywheel.review.labels import read_labels
from flywheel.telemetry import Progress
from flywheel.training.export import ADAPTER
from flywheel.training.finetune import finetune
from flywheel.workflow.evaluations.contamination import refuse_contaminated
from flywheel.workflow.turns.context import Context
from flywheel.workflow.turns.measuring import live_folder, marker
from flywheel.workflow.turns.steps import Artifact
from flywheel.workflow.turns.sweep import Proxies, SweepResult
from flywheel.workflow.turns.sweep import sweep as sweep_filter


def candidates(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Consented feedback joined to its inferences: what could be learnt from."""

    def allowed(inferences: Any, consents: Any) -> set[str]:
        rows: list[Inference] = list(inferences)
        statements: list[Consent] = list(consents)
        return consented_ids(rows, statements, "training", utcnow())

    def listened(reactions: Any, inferences: Any, consents: Any) -> list[Feedback]:
        return heard(reactions, inferences, consents, "training", utcnow())

    found = build(
        context.lake,
        context.config,
        snapshot={**done["snapshot"]["tables"], "consents": context.lake.version("consents")},
        consented=allowed,
        heard=listened,
        excluded=Exclusions.model_validate(done["split"]["excluded"]),
        work=context.work / "candidates",
        progress=progress,
    )
    return found.model_dump(mode="json")


def reward(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Reward models, cross-fitted, from the weights that training starts from."""
    base = context.config.quality.reward.base
    folder = resolve(context.lake, context.config, base or _base(done)).folder
    models = train_reward(
        context.lake,
        context.config,
        built(done),
        base=folder,
        code_version=context.code_version,
        progress=progress,
    )
    return models.model_dump(mode="json")


def score(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Every signal of every candidate, by Ray Data."""
    found = score_rows(
        context.lake,
        context.config,
        built(done),
        _models(done),
        live_model=live_folder(context, _base(done)),
        marker=marker(context, done["snapshot"]["tables"].get("inferences")),
        progress=progress,
    )
    return found.model_dump(mode="json")


def sweep(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Search the filter's thresholds on the `tune` labels; with too few of them the configured filter stays."""
    configured = context.config.quality.filter
    if not context.config.sweep.in_turn or not configured.enabled:
        return {"used": False, "why": "switched off in the configuration", "filter": configured.model_dump(mode="json")}
    out = context.work / "filter.yaml"
    try:
        result = search_filter(context, done, out=out, progress=progress)
    except UsageError as error:
        return {"used": False, "why": str(error), "filter": configured.model_dump(mode="json")}
    return {
        "used": True,
        "filter": load(FilterConfig, out).model_dump(mode="json"),
        **result.model_dump(mode="json", exclude={"best"}),
    }


def search_filter(
    context: Context, done: dict[str, Artifact], *, out: Path, restart: bool = False, progress: Progress
) -> SweepResult:
    """The sweep over a turn's candidates, with the `tune` labels of now.

    Raises:
        UsageError: too few of them to decide anything.
    """
    lake, config = context.lake, context.config
    reward = _models(done)
    tables = [f"{table}@{version}" for table, version in sorted(done["snapshot"]["tables"].items()) if version]
    return sweep_filter(
        lake,
        config,
        built(done),
        scored(done),
        read_labels(lake, config.flow, split="tune"),
        out=out,
        code_version=context.code_version,
        parents=[*([f"reward/{reward.id}"] if reward.folds else []), *tables],
        proxies=_proxies(context, done) if config.sweep.proxy.finalists > 1 else None,
        restart=restart,
        progress=progress,
    )


def _proxies(context: Context, done: dict[str, Artifact]) -> Proxies:
    """Weights that training would start from, a folder that erasure knows, and who consents now."""
    base = resolve(context.lake, context.config, _base(done))
    asked = ["inference_id", "subject", "ts", "consent"]
    table = context.lake.read("inferences", flow=context.config.flow, columns=asked)
    consents = context.lake.records("consents", Consent, flow=context.config.flow)
    allowed = consented_ids(table, consents, "training", utcnow())
    return Proxies(base=base.folder, work=context.work / "train" / "proxies", allowed=allowed)


def curate(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Apply the filter: examples, drops with reasons, the dataset's manifest and the funnel."""
    manifest, chosen = done["sweep"].get("manifest"), FilterConfig.model_validate(done["sweep"]["filter"])
    dataset = curate_rows(
        context.lake,
        context.config,
        context.keyring,
        built(done),
        models=_models(done),
        scored=scored(done),
        filter_config=chosen,
        snapshot=done["snapshot"]["tables"],
        turn_id=context.turn.turn_id,
        code_version=context.code_version,
        parents=[manifest] if manifest else [],
        older=learnt_rows(context, done, chosen),
        progress=progress,
    )
    artifact: Artifact = dataset.model_dump(mode="json")
    if few := too_few(dataset.examples, context.config.quality.min_examples, dataset.funnel.dropped):
        artifact["stop"] = few
    return artifact


def too_few(examples: int, wanted: int, dropped: Mapping[str, int]) -> str | None:
    """Why a turn ends before it trains, or None; what is set aside is no reason to loosen the filter."""
    if examples >= wanted:
        return None
    kept = dropped.get("held_out", 0)
    aside = f" ({kept} rows are set aside to judge by: labels.gate_share and its like, failures)" if kept else ""
    return (
        f"{examples} examples passed the filter and at least {wanted} are wanted (quality.min_examples){aside}; "
        "collect more feedback or loosen the filter"
    )


def learnt_rows(context: Context, done: dict[str, Artifact], chosen: FilterConfig) -> frozenset[str]:
    """Rows behind the model that this turn learns from. What only a rejected candidate saw is still new to it."""
    if chosen.older_per_new is None:
        return frozenset()
    return learnt_before(lineage(context.lake, "model", _base(done)))


def scan(context: Context, done: dict[str, Artifact], _progress: Progress) -> Artifact:
    """Look for personal data that is not a surrogate, and for what judges. A find stops the turn before training.

    Raises:
        LeakError, ContaminationError: names the examples, never the text.
    """
    examples = _examples(context, done)
    refuse_contaminated(context.lake, context.config, done["curate"]["id"], examples)
    texts = [
        (example.example_id, text)
        for example in examples
        for text in [*(message.content for message in example.messages), example.target]
    ]
    leaks = scan_texts(texts, context.config.privacy)
    if len(leaks) > context.config.rollout.gate.max_leaks:
        named = ", ".join(sorted({leak.id for leak in leaks})[:5])
        raise LeakError(
            f"{len(leaks)} pieces of personal data are in the dataset {done['curate']['id']} (examples {named}). "
            "Extend privacy.detectors or privacy.names_file, ingest again, and start a new turn with --new."
        )
    return {"scanned": len(texts), "leaks": len(leaks)}


def train(context: Context, done: dict[str, Artifact], progress: Progress) -> Artifact:
    """Fine-tune the live model, or its newest ancestor without erased data, on the dataset with DeepSpeed."""
    base = resolve(context.lake, context.config, _base(done))
    result = finetune(
        context.config.training,
        base=base.folder,
        examples=_examples(context, done),
        out=context.work / "model",
        storage=context.work / "train",
        run_name=f"{context.config.flow}-{context.turn.turn_id}",
        seed=context.config.seed,
        on_progress=partial(_show_training, progress),
    )
    return result.model_dump(mode="json")


def register(context: Context, done: dict[str, Artifact], _progress: Progress) -> Artifact:
    """Give the new model a version, with its parents, in the lake and in MLflow."""
    trained = done["train"]
    parents = [f"dataset/{done['curate']['id']}", f"model/{_base(done)}"]
    version = register_model(
        context.lake,
        context.config,
        folder=Path(trained["out"]),
        parents=parents,
        params=context.config.training.model_dump(mode="json"),
        metrics={"first_loss": trained["first_loss"], "last_loss": trained["last_loss"]},
        data={"turn": context.turn.turn_id},
        code_version=context.code_version,
    )
    adapter = version.folder / ADAPTER
    return {
        "version": version.version,
        "folder": str(version.folder),
        "adapter": str(adapter) if adapter.is_dir() else None,
        "run_id": version.run_id,
    }


def _show_training(progress: Progress, state: dict[str, Any]) -> None:
    text = f"loss {state['loss']:.3f}  {state['tokens_per_s']:,.0f} tokens/s" if state.get("loss") is not None else ""
    progress.update(state["step"], state["steps"], text)


def _base(done: dict[str, Artifact]) -> str:
    """The version that this turn learns from."""
    return done["snapshot"]["base"]


def built(done: dict[str, Artifact]) -> BuildResult:
    """The candidates of this turn."""
    return BuildResult.model_validate(_plain(done["candidates"]))


def _models(done: dict[str, Artifact]) -> RewardModels:
    return RewardModels.model_validate(_plain(done["reward"]))


def scored(done: dict[str, Artifact]) -> ScoreResult:
    """Where their signals lie."""
    return ScoreResult.model_validate(_plain(done["score"]))


def _plain(artifact: Artifact) -> Artifact:
    return {key: value for key, value in artifact.items() if key != "seconds"}


def _examples(context: Context, done: dict[str, Artifact]) -> list[Example]:
    dataset = Dataset.model_validate({k: v for k, v in done["curate"].items() if k not in {"seconds", "stop"}})
    return read_examples(context.lake, read_manifest(context.lake, "dataset", dataset.id, flow=dataset.flow))
