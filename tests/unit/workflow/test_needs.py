"""What a turn asks of a cluster before it begins."""

from flywheel.config import FlywheelConfig, load
from flywheel.placement import unplaceable
from flywheel.workflow.turns.needs import needs

NODE = {"CPU": 64.0, "memory": 1e12}


def test_reward_models_on_gpus_want_gpus(tmp_path):
    given = {"home": str(tmp_path), "quality.reward.num_gpus": 1}
    (problem,) = unplaceable(needs(load(FlywheelConfig, overrides=given)), [NODE])
    assert "1 GPU" in problem
    assert "lower quality.reward.actors, .num_cpus or .num_gpus" in problem
    assert not unplaceable(needs(load(FlywheelConfig, overrides=given)), [{**NODE, "GPU": 8.0}])
