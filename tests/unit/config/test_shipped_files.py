"""Every YAML that the project ships is loaded by what reads it."""

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml

from flywheel.config import EvaluationGrid, FlywheelConfig, GatePolicy, PolicyQuestion, load
from flywheel.demo.run import demo_config
from flywheel.evaluation.safety import safety_suite
from flywheel.workflow.evaluations.grid import samplings

ROOT = Path(__file__).parents[3]
CONFIGS = sorted(ROOT.glob("configs/*/flywheel.yaml"))


def test_configs_are_shipped_for_one_machine_ci_and_a_cluster():
    assert [path.parent.name for path in CONFIGS] == ["ci", "cluster", "local"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_each_configuration_loads(path):
    assert load(FlywheelConfig, path).flow == "triage"


def test_every_yaml_under_configs_is_known():
    known = {"flywheel.yaml", "serve.yaml", "filter.yaml", "gate.yaml", "evaluation.yaml", "policy.yaml"}
    assert {path.name for path in ROOT.glob("configs/*/*")} <= known


def test_the_gate_policy_says_something_about_every_condition():
    path = ROOT / "configs/local/gate.yaml"
    stated = yaml.safe_load(path.read_text())
    assert set(stated) == set(GatePolicy.model_fields)
    config = load(FlywheelConfig, overrides={"rollout.gate_file": str(path), "rollout.gate.min_primary_cases": 1})
    assert config.rollout.gate == load(GatePolicy, path)
    assert config.rollout.gate.guards["safety"].max_loss == 0.01
    assert config.rollout.gate.guards["safety"].min_cases <= len(
        safety_suite("triage")
    )  # else nothing is ever promoted


def test_the_evaluation_sweep_loads():
    grid = load(EvaluationGrid, ROOT / "configs/local/evaluation.yaml")
    assert [str(one) for one in samplings(grid, FlywheelConfig())] == ["", "T 0.7 seed 1", "T 0.7 seed 2"]


def test_the_question_to_logged_traffic_loads():
    assert load(PolicyQuestion, ROOT / "configs/local/policy.yaml").headline() == "sndr"


def test_the_demo_configuration_loads_with_and_without_sabotage():
    assert demo_config(None, [], sabotage=False).quality.filter.enabled
    assert not demo_config(None, [], sabotage=True).quality.filter.enabled
    assert Path(demo_config(None, [], sabotage=False).privacy.names_file or "").exists()


def test_the_cluster_launcher_accepts_cluster_yaml():
    schema = json.loads((resources.files(ray.autoscaler) / "ray-schema.json").read_text())
    content = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    jsonschema.validate(content, schema)
    assert content["head_node_type"] in content["available_node_types"]


def test_platform_folder_does_not_shadow_the_standard_library():
    assert not (ROOT / "platform" / "__init__.py").exists()


@pytest.mark.parametrize("job", sorted(ROOT.glob("jobs/*.py")), ids=lambda path: path.stem)
def test_jobs_are_thin_and_light_to_import(job):
    text = job.read_text()
    assert len(text.splitlines()) <= 30
    head = text.split('if __name__ == "__main__":')[0]
    assert "import ray" not in head
    assert "from flywheel" not in head
