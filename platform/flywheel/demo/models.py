"""Models by name: the built-in ``tiny``, a registered version, or a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flywheel.config import FlywheelConfig, TrainingConfig
from flywheel.demo import base_model
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import open_lake
from flywheel.records import Example
from flywheel.registry.versions import register, resolve
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.telemetry import Progress
from flywheel.training.finetune import finetune
from flywheel.workflow.cluster import check_disk, connected

BUILT_IN = ("tiny",)


def first_model(config: FlywheelConfig, name: str, progress: Progress) -> Variant:
    """The named model as a registered version of the flow.

    Args:
        config: the flow.
        name: ``tiny`` (built once per home, in about a minute), a version, or a model folder.
        progress: told about the building.

    Raises:
        UsageError: no such model.
        ModelError: the folder cannot be served.
    """
    folder = tiny(config, progress) if name in BUILT_IN else resolve(open_lake(config), config, name).folder
    progress.start("register", name)
    version = register(open_lake(config), config, folder=folder, data={"name": name})
    progress.finish(version.version)
    return Variant(version=version.version, folder=str(version.folder))


def starting_model(config: FlywheelConfig, name: str | None, progress: Progress) -> Variant | None:
    """The model a user names, else the configured ``first_model`` of a flow without a live one, else None."""
    if name is None and routing.current(open_lake(config).store, config.flow) is None:
        name = config.first_model
    return first_model(config, name, progress) if name else None


def tiny(config: FlywheelConfig, progress: Progress) -> Path:
    """The folder of the small base model; trained on the first call, by the same fine-tuning a turn uses."""
    settings = base_model.PRETRAINING.model_copy(
        update={"num_workers": config.training.num_workers, "cpus_per_worker": config.training.cpus_per_worker}
    )
    recipe = content_id("tiny", settings.model_dump(mode="json"), base_model.PRETRAINING_MESSAGES, config.seed)
    folder = config.home_path() / "models" / recipe
    if (folder / "config.json").exists():
        return folder
    check_disk(folder)
    progress.start("base model", "starting Ray")

    def show(state: dict[str, Any]) -> None:
        progress.update(state["step"], state["steps"], f"loss {state['loss']:.3f}" if state.get("loss") else "")

    def trainer(training: TrainingConfig, base: Path, examples: Sequence[Example], out: Path) -> object:
        return finetune(
            training,
            base=base,
            examples=examples,
            out=out,
            storage=config.home_path() / "models" / "work",
            run_name=recipe,
            seed=config.seed,
            on_progress=show,
        )

    with connected(config):
        work = config.home_path() / "models" / f"{recipe}-work"
        base_model.build(folder, trainer=trainer, work=work, seed=config.seed, config=settings)
    progress.finish(f"{base_model.PRETRAINING_MESSAGES:,} messages of old intents, {folder.name}")
    return folder
