"""Which rankers there are, which one serves, and how far the shadow is: for people and machines."""

from __future__ import annotations

from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.lake.erasures import tainted_lineage
from flywheel.lake.manifests import list_manifests
from flywheel.lake.tables import open_lake
from flywheel.quality.ranker.lists import ranked_lists
from flywheel.registry.rankers import KIND
from flywheel.rollout import ranker_routing as truth
from flywheel.workflow.rankers.learn import summary, tables


def rankers(config: FlywheelConfig) -> list[dict[str, Any]]:
    """Every ranker of the flow, oldest first."""
    return [summary(manifest) for manifest in list_manifests(open_lake(config), KIND, config.flow)]


def state(config: FlywheelConfig) -> dict[str, Any]:
    """What serves, what is in the shadow, and how many lists it has scored.

    How good it is is not said here: every look at that is one of those that ``promote`` counts.
    """
    lake = open_lake(config)
    now = truth.current(lake.store, config.flow)
    shadows = [one.version for one in now.shadows] if now else []
    counts = _counts(config, shadows) if shadows else {}
    live = now.live.version if now and now.live else None
    needed = config.quality.ranker.min_shadow_lists
    return {
        "flow": config.flow,
        "serving": config.gateway.ranking.ranker,
        "live": live,
        "erased": (tainted_lineage(lake, KIND, live) if live else []) or [],
        "previous": now.previous.version if now and now.previous else None,
        "shadows": [{"version": one, "lists": counts[one], "needed": needed} for one in shadows],
        "since": now.ts.isoformat(timespec="seconds") if now else None,
    }  # fmt: skip


def _counts(config: FlywheelConfig, versions: list[str]) -> dict[str, int]:
    inferences, _, allowed = tables(open_lake(config), config.flow, "evaluation", {})
    lists = ranked_lists(inferences, allowed=allowed, reported=set())
    return {
        version: sum(one.shadows.get(version) is not None and bool(one.chances) for one in lists)
        for version in versions
    }
