"""A dataset at a glance: its funnel, the rules of its filter with what each dropped, and what was made of it."""

from __future__ import annotations

from typing import Any

from flywheel.config import FilterConfig, FlywheelConfig
from flywheel.errors import NotFoundInLakeError
from flywheel.lake.manifests import Manifest, list_manifests, read_manifest
from flywheel.lake.tables import Lake
from flywheel.quality.filters import number
from flywheel.quality.filters_trace import bound_text


def show(lake: Lake, config: FlywheelConfig, dataset: str | None = None) -> dict[str, Any]:
    """What ``flywheel curate show`` prints; the newest dataset of the flow unless one is named.

    Raises:
        NotFoundInLakeError: no such dataset, or none yet.
    """
    if dataset is None:
        known = list_manifests(lake, "dataset", config.flow)
        if not known:
            raise NotFoundInLakeError(f"The flow '{config.flow}' has no dataset yet; make one with: flywheel turn")
        manifest = known[-1]
    else:
        manifest = read_manifest(lake, "dataset", dataset, flow=config.flow)
    models = [item.id for item in list_manifests(lake, "model", config.flow) if manifest.ref in item.parents]
    return _shown(manifest, models)


def _shown(manifest: Manifest, models: list[str]) -> dict[str, Any]:
    data = manifest.data
    used, dropped = FilterConfig.model_validate(data["filter"]), data["funnel"]["dropped"]
    rules = [
        {
            "reason": rule.reason, "signal": rule.signal, "bound": bound_text(rule, used), "for": rule.for_,
            "dropped": dropped.get(rule.reason, 0),
        }
        for rule in used.rules
    ]  # fmt: skip
    votes = {
        "reason": used.votes.reason, "signal": ", ".join(used.votes.groups), "for": "all",
        "bound": f"{number(used.votes.k, used):g} of {len(used.votes.groups)}",
        "dropped": dropped.get(used.votes.reason, 0),
    }  # fmt: skip
    return {
        "id": manifest.id, "flow": manifest.flow, "created": manifest.created.isoformat(),
        "turn": data.get("first_turn"), "examples": len(data["rows"]), "funnel": data["funnel"],
        "older": data.get("older"), "filter": used.model_dump(mode="json"), "rules": [*rules, votes], "models": models,
        "parents": manifest.parents,
    }  # fmt: skip
