"""What the nodes of a cluster must share: the lake, and with several machines the home folder."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from flywheel.config import FlywheelConfig
from flywheel.errors import EnvironmentProblem, UsageError

PROBE_TIMEOUT_S = 25


def check_shared(config: FlywheelConfig) -> None:
    """Refuse a cluster whose nodes would work on different files. This process is connected to it.

    Raises:
        UsageError: the lake is a folder and there is more than one node.
        EnvironmentProblem: there are several machines and they do not share ``home``.
    """
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    check_lake(config, len(nodes))
    if len({node["NodeManagerAddress"] for node in nodes}) > 1:
        _check_home(config, nodes, ray)


def check_lake(config: FlywheelConfig, nodes: int) -> None:
    """A folder of one machine cannot be the lake of several nodes."""
    if nodes > 1 and "://" not in config.lake_uri():
        raise UsageError(
            f"The lake is the folder {config.lake_uri()}, but the cluster has {nodes} nodes, which do not share it. "
            "Set lake.uri to an object store such as s3://bucket/prefix."
        )


def _check_home(config: FlywheelConfig, nodes: list[dict[str, Any]], ray: Any) -> None:
    """Model folders and training checkpoints go through ``home``: every machine must see what this one writes."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    probe = config.home_path() / f".shared-{uuid.uuid4().hex}"
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.touch()
    try:
        seen = [
            ray.remote(_exists)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
            .remote(str(probe))
            for node in nodes
        ]
        done, late = ray.wait(seen, num_returns=len(seen), timeout=PROBE_TIMEOUT_S)
        blind = [nodes[seen.index(one)]["NodeManagerAddress"] for one in done if not ray.get(one)]
        blind += [nodes[seen.index(one)]["NodeManagerAddress"] for one in late]
    finally:
        probe.unlink(missing_ok=True)
    if blind:
        raise EnvironmentProblem(
            f"The folder {config.home_path()} of this machine is not to be seen on {', '.join(sorted(set(blind)))}. "
            "On several machines set home to a folder that all of them mount (NFS, EFS, Filestore)."
        )


def _exists(path: str) -> bool:
    return Path(path).exists()
