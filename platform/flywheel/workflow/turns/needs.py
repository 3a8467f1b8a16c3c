"""What the steps of a turn ask of a cluster, so that a turn that cannot be placed says so at its start."""

from __future__ import annotations

from flywheel.config import FlywheelConfig
from flywheel.errors import EnvironmentProblem
from flywheel.inference.server import bundles
from flywheel.placement import Need, unplaceable
from flywheel.training.finetune import need_of


def needs(config: FlywheelConfig) -> list[Need]:
    """One entry a kind of work. Live model and candidate are evaluated side by side, so engines count twice."""
    engine = bundles(config.engine)
    reward = config.quality.reward
    each = {"CPU": reward.num_cpus, "GPU": reward.num_gpus}
    lower = "quality.reward.actors, .num_cpus or .num_gpus"
    return [
        Need("scoring actors", reward.actors, each, lower),
        need_of(config.training),
        Need("engines", 2 * len(engine), engine[0], "engine.num_cpus, engine.num_gpus or engine.tensor_parallel_size"),
    ]


def check_placeable(config: FlywheelConfig) -> None:
    """Compare ``needs`` with the nodes of the cluster that this process is connected to.

    Raises:
        EnvironmentProblem: some work would wait for ever; names it, the nodes, and the settings to lower.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if problems := unplaceable(needs(config), nodes):
        raise EnvironmentProblem("This turn does not fit the cluster. " + " ".join(f"{text}." for text in problems))
