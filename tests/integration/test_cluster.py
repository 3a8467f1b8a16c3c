"""A head and two worker node processes, a lake on S3, jobs submitted to nodes that have not installed the project."""

import shutil

import pytest
import ray_nodes
import small_flow
import yaml

from flywheel.config import FlywheelConfig, load
from flywheel.lake.manifests import list_manifests
from flywheel.testing import make_tiny_model
from flywheel.workflow.turns.steps import TurnHandle
from flywheel.workflow.turns.turn import STEP_NAMES, step_key

pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.slow]

INTERACTIONS = 200


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, s3_server):
    python = ray_nodes.bare_python(tmp_path_factory.mktemp("bare") / "venv")
    nodes = ray_nodes.RayNodes(python, s3_server.environment)
    try:
        nodes.start_head()
        nodes.add_worker()
        nodes.add_worker()
        yield nodes
    finally:
        nodes.stop()


def project(folder, settings):
    """What `--working-dir .` ships: the sources and a configuration."""
    for name in ("jobs", "platform"):
        shutil.copytree(
            small_flow.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    (folder / "flow.yaml").write_text(yaml.safe_dump(settings))
    return folder


def test_jobs_run_a_whole_turn_on_worker_nodes(cluster, s3_environment, tmp_path):
    home = tmp_path / "home"
    lake = {"uri": s3_environment.new_lake_uri(), "storage_options": s3_environment.options}
    settings = small_flow.settings(home, lake=lake, cluster={"address": "auto"})
    work = project(tmp_path / "work", settings)
    logs = small_flow.write_logs(tmp_path / "logs.jsonl", INTERACTIONS)
    cases = small_flow.write_old_cases(tmp_path / "cases.jsonl")
    model = make_tiny_model(tmp_path / "model")
    config = load(FlywheelConfig, work / "flow.yaml")

    imported = cluster.submit(work, "python", "jobs/import_logs.py", "--config", "flow.yaml", str(logs))
    assert imported.returncode == 0, imported.stdout + imported.stderr
    import_cases(config, cases)
    store = small_flow.label(config, INTERACTIONS).store

    scored = cluster.submit(work, "python", "jobs/score.py", "--config", "flow.yaml", "--model", str(model))
    assert scored.returncode == 0, scored.stdout + scored.stderr
    turn = TurnHandle(store, "triage", "turn-0001")
    assert [name for name in STEP_NAMES if turn.read(step_key(name))] == list(
        STEP_NAMES[: STEP_NAMES.index("score") + 1]
    )

    done = cluster.submit(work, "python", "jobs/turn.py", "--config", "flow.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert turn.read("finished")["decision"] == "reject"  # the base is random
    assert len(list_manifests(open_lake_of(config), "dataset", "triage")) == 1


def test_a_folder_as_lake_and_work_that_does_not_fit_are_refused_at_once(cluster, s3_environment, tmp_path):
    folder = project(tmp_path / "folder", small_flow.settings(tmp_path / "home", cluster={"address": "auto"}))
    model = make_tiny_model(tmp_path / "model")
    config = load(FlywheelConfig, folder / "flow.yaml")
    import_logs(config, small_flow.write_logs(tmp_path / "logs.jsonl", 20))
    refused = cluster.submit(folder, "python", "jobs/turn.py", "--config", "flow.yaml", "--model", str(model))
    assert refused.returncode != 0
    assert "Set lake.uri to an object store such as s3://bucket/prefix" in refused.stdout

    lake = {"uri": s3_environment.new_lake_uri(), "storage_options": s3_environment.options}
    large = small_flow.settings(tmp_path / "home2", lake=lake, cluster={"address": "auto"})
    large["training"] = {**large["training"], "num_workers": 9}
    big = project(tmp_path / "big", large)
    config = load(FlywheelConfig, big / "flow.yaml")
    import_logs(config, small_flow.write_logs(tmp_path / "logs.jsonl", 20))
    refused = cluster.submit(big, "python", "jobs/turn.py", "--config", "flow.yaml", "--model", str(model))
    assert refused.returncode != 0
    assert "training workers: 9 with 1 CPU each do not fit the cluster" in refused.stdout


def open_lake_of(config):
    from flywheel.lake.tables import open_lake

    return open_lake(config)


def import_logs(config, path):
    from flywheel.capture.importer import import_interactions
    from flywheel.lake.keys import Keyring

    import_interactions(open_lake_of(config), config, Keyring(config.home_path()), path)


def import_cases(config, path):
    from flywheel.capture.importer import import_cases as import_

    import_(open_lake_of(config), config, path)
