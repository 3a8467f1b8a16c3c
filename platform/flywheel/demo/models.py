"""Models by name: the demo's ``tiny``, or whatever the registry finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.config import FlywheelConfig, TrainingConfig
from flywheel.demo import base_model
from flywheel.demo.product import pretraining_examples
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import open_lake
from flywheel.records import Example
from flywheel.registry.versions import resolve
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.telemetry import Progress
from flywheel.training.finetune import finetune
from flywheel.workflow.cluster import check_disk, connected
from flywheel.workflow.turns.models import registered


def first_model(config: FlywheelConfig, name: str, progress: Progress) -> Variant:
    """``registered``, which also knows ``tiny`` (built once per home, in about a minute)."""
    return registered(config, str(tiny(config, progress)) if name == base_model.TINY else name, progress)


def starting_model(config: FlywheelConfig, name: str | None, progress: Progress) -> Variant | None:
    """The model a user names, else the configured ``first_model`` of a flow without a live one, else None."""
    if name is None and routing.current(open_lake(config).store, config.flow) is None:
        name = config.first_model
    return first_model(config, name, progress) if name else None


def tiny(config: FlywheelConfig, progress: Progress) -> Path:
    """The folder of the small base model; trained on the first call, by the same fine-tuning a turn uses."""
    settings = _workers_of(config, base_model.PRETRAINING)
    way = (base_model.RECIPE, settings.model_dump(mode="json"), base_model.PRETRAINING_MESSAGES, config.seed)
    recipe = content_id(base_model.TINY, *way)
    folder = config.home_path() / "models" / recipe

    def train() -> None:
        base_model.build(
            folder,
            trainer=_Trainer(config, recipe, progress),
            work=config.home_path() / "models" / f"{recipe}-work",
            seed=config.seed,
            config=settings,
        )

    return _built_once(config, folder, base_model.PRETRAINING_MESSAGES, train, progress)


def taught(config: FlywheelConfig, name: str, progress: Progress) -> Path:
    """The folder of a general model after it has learnt the product's old intents, as the demo's live model did."""
    base = resolve(open_lake(config), config, name)
    settings = config.training.model_copy(update={"epochs": 1})
    recipe = content_id(
        "taught", base.content_hash, settings.model_dump(mode="json"), base_model.TEACHING_MESSAGES, config.seed
    )
    folder = config.home_path() / "models" / recipe
    examples = pretraining_examples(base_model.TEACHING_MESSAGES, config.seed)

    def train() -> None:
        _Trainer(config, recipe, progress)(settings, base.folder, examples, folder)

    return _built_once(config, folder, len(examples), train, progress)


def _built_once(
    config: FlywheelConfig, folder: Path, messages: int, train: Callable[[], None], progress: Progress
) -> Path:
    if (folder / "config.json").exists():
        return folder
    check_disk(folder)
    progress.start("base model", "starting Ray")
    with connected(config):
        train()
    progress.finish(f"{messages:,} messages of old intents, {folder.name}")
    return folder


def _workers_of(config: FlywheelConfig, settings: TrainingConfig) -> TrainingConfig:
    here = {"num_workers": config.training.num_workers, "cpus_per_worker": config.training.cpus_per_worker}
    return settings.model_copy(update=here)


@dataclass(frozen=True)
class _Trainer:
    """``finetune`` with what does not change from model to model."""

    config: FlywheelConfig
    run_name: str
    progress: Progress

    def __call__(self, training: TrainingConfig, base: Path, examples: Sequence[Example], out: Path) -> None:
        finetune(
            training,
            base=base,
            examples=examples,
            out=out,
            storage=self.config.home_path() / "models" / "work",
            run_name=self.run_name,
            seed=self.config.seed,
            on_progress=self._show,
        )

    def _show(self, state: dict[str, Any]) -> None:
        loss = state.get("loss")
        self.progress.update(state["step"], state["steps"], f"loss {loss:.3f}" if loss else "")
