"""Train a ranker from the lists in the lake, register it, and put it in the shadow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from flywheel.capture.consent import consented_ids
from flywheel.config import FlywheelConfig
from flywheel.lake.manifests import Manifest
from flywheel.lake.tables import Lake, open_lake
from flywheel.quality.ranker.exposures import exposures
from flywheel.quality.ranker.lists import COLUMNS
from flywheel.quality.ranker.train import train_ranker
from flywheel.records import Consent, Purpose, utcnow
from flywheel.registry.rankers import register_ranker
from flywheel.rollout import ranker_routing as truth
from flywheel.rollout import ranker_steps
from flywheel.rollout.ranker_routing import RankerVariant
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.turns.lease import RANKING, only_one

FEEDBACK = ("inference_id", "kind", "value", "items")


def train(config: FlywheelConfig, *, actor: str, shadow: bool = True, progress: Progress | None = None) -> Manifest:
    """One training on everything that may be learnt from now. The same rows give the same version.

    Args:
        config: the flow; ``quality.ranker`` says how.
        actor: who asked for it.
        shadow: put it in the shadow, in place of what is there.
        progress: told about each step.

    Raises:
        TrainingError: there is too little to learn from.
        BusyError: another training, or an erasure, is running.
    """
    progress = progress or Silent()
    with only_one(config, RANKING):
        lake = open_lake(config)
        progress.start("ranked lists")
        versions = {table: lake.version(table) for table in ("inferences", "feedback", "consents")}
        lists, feedback, allowed = tables(lake, config.flow, "training", versions)
        seen = exposures(lists, feedback, allowed=allowed, config=config.quality.ranker)
        progress.finish(f"{len(seen.lists):,} lists, {len(seen.items):,} items on screen")
        progress.start("ranker")
        done = train_ranker(seen, config.quality.ranker, seed=config.seed)
        manifest = register_ranker(
            lake,
            config,
            done.ranker,
            parents=[f"{table}@{version}" for table, version in versions.items() if version is not None],
            data={"report": done.report.model_dump(mode="json"), "lists": done.lists},
        )
        progress.finish(manifest.id)
        if shadow:
            to_shadow(lake, config, manifest, actor=actor)
    return manifest


def to_shadow(lake: Lake, config: FlywheelConfig, manifest: Manifest, *, actor: str) -> bool:
    """Let a ranker score beside the live one; False: it does, or it is live."""
    candidate = RankerVariant(version=manifest.id, content=manifest.data["content_hash"])
    reason = f"shadow of {candidate.version}"
    return ranker_steps.apply(
        lake, config.flow, lambda now: truth.with_shadow(now, config.flow, candidate, actor=actor, reason=reason)
    )[1]


def tables(
    lake: Lake, flow: str, purpose: Purpose, versions: dict[str, int | None]
) -> tuple[pa.Table, pa.Table, set[str]]:
    """Inferences and feedback of a flow, and the ids of the inferences that may be used for ``purpose`` now."""

    def read(table: str, columns: Sequence[str]) -> pa.Table:
        return lake.read(table, flow=flow, columns=columns, at=versions.get(table))

    inferences, feedback = read("inferences", COLUMNS), read("feedback", FEEDBACK)
    consents = lake.records("consents", Consent, flow=flow, at=versions.get("consents"))
    return inferences, feedback, consented_ids(inferences, consents, purpose, utcnow())


def summary(manifest: Manifest) -> dict[str, Any]:
    """What people and machines are told of a ranker; without the lists behind it."""
    kept = {name: value for name, value in manifest.data.items() if name not in {"lists", "identity"}}
    return {"version": manifest.id, "created": manifest.created.isoformat(timespec="seconds"), **kept}
