"""An evaluation sweep that is killed goes on behind its last block, and ends with the table of one that was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import small_evaluation

from flywheel.lake.keys import MASTER_ENV
from flywheel.lake.manifests import list_manifests
from flywheel.lake.tables import open_lake
from flywheel.operate.evaluation_table import write_table
from flywheel.registry.versions import content_hash
from flywheel.workflow.evaluations.evaluate import KIND, evaluate_grid

WORKER = Path(__file__).with_name("evaluation_worker.py")
POINTS = (
    "between two blocks of a cell",
    "between two cells",
    "during a commit",
    "behind the last commit of a cell",
    "before the table is written",
)
CELLS, CASES = 8, 12  # two models, two temperatures, two suites of twelve cases


def finished(lake):
    """Cells with an artifact, by what decides what is asked: the model's content, temperature and suite."""
    data = [item.data for item in list_manifests(lake, KIND, "triage")]
    return {(one["content"], one["sampling"]["temperature"], one["suite"]) for one in data}


def asked(log, contents):
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [(contents[weights], temperature, text) for weights, temperature, text in lines]


@pytest.mark.slow
def test_killed_at_five_points_a_sweep_repeats_no_finished_cell_and_gives_the_same_table(tmp_path):
    small_evaluation.model_folder(tmp_path / "a", "weights a")
    small_evaluation.model_folder(tmp_path / "b", "weights of b")
    config = small_evaluation.prepare(tmp_path / "home", cases=CASES)
    lake, log, out = open_lake(config), tmp_path / "log", tmp_path / "table.json"
    grid = small_evaluation.grid(tmp_path / "a", tmp_path / "b")

    calm = small_evaluation.prepare(tmp_path / "calm", cases=CASES)
    expected = evaluate_grid(calm, grid, answering=small_evaluation.FakeAnswers)
    write_table(expected, tmp_path / "expected.json")
    assert [cell.score.n for cell in expected.cells] == [CASES] * CELLS
    contents = {"weights a": content_hash(tmp_path / "a"), "weights of b": content_hash(tmp_path / "b")}

    command = [sys.executable, WORKER, tmp_path / "home", log, out]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done, seen = set(), []
    for point in POINTS:
        process = subprocess.run([*command, point], capture_output=True, text=True, timeout=120, env=environment)
        assert process.returncode == -signal.SIGKILL, f"{point}: {process.stderr[-2000:]}"
        assert not out.exists()
        new = asked(log, contents)[len(seen) :]
        assert not [one for one in new if (one[0], one[1], one[2].split()[0]) in done], f"{point}: asked again"
        seen, done = seen + new, finished(lake)
    assert len(done) == CELLS  # the last one died when all there was to do was to write the table

    resumed = subprocess.run([*command, "nowhere"], capture_output=True, text=True, timeout=120, env=environment)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert asked(log, contents) == seen, "all was answered before"
    assert json.loads(out.read_text()) == json.loads((tmp_path / "expected.json").read_text())

    times = Counter(seen)
    assert len(times) == CELLS * CASES
    repeated = [one for one, count in times.items() if count > 1]
    assert len(repeated) <= len(POINTS) * small_evaluation.FakeAnswers.BLOCK  # at most the block it died in
    rows = lake.read("eval_results", columns=["run_id", "case_id", "case_version"]).to_pylist()
    assert len(rows) == len({tuple(row.values()) for row in rows}) == CELLS * CASES


@pytest.mark.ray
@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("FLYWHEEL_LONG"), reason="starts an engine six times: make reliability")
def test_the_same_with_a_real_engine(tmp_path):
    import ray_nodes

    from flywheel.config import dump
    from flywheel.testing import make_tiny_model

    model = make_tiny_model(tmp_path / "model")
    nodes = ray_nodes.RayNodes(Path(sys.executable), {MASTER_ENV: "ab" * 32})
    try:
        nodes.start_head(cpus=4)
        overrides = {"cluster.address": nodes.address, "engine.kv_cache_gib": 0.25, "evaluation.max_tokens": 8}
        configs = {name: small_evaluation.prepare(tmp_path / name, cases=600, **overrides) for name in ("home", "calm")}
        for name, config in configs.items():
            dump(config, tmp_path / f"{name}.yaml")

        def command(name):
            arguments = ["--model", model, "--suite", "golden", "--suite", "random", "--out", tmp_path / f"{name}.json"]
            return [sys.executable, "-m", "flywheel", "evaluate", *arguments, "-c", tmp_path / f"{name}.yaml", "--json"]

        chance, killed = random.Random(5), 0
        for _ in range(5):
            process = subprocess.Popen(command("home"), env=nodes.environment, stdout=subprocess.DEVNULL)
            time.sleep(chance.uniform(3, 25))
            killed += process.poll() is None
            process.kill()
            process.wait(30)
        assert killed, "every sweep was done before it was killed"
        for name in configs:
            done = subprocess.run(command(name), env=nodes.environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr[-3000:]
        tables = [json.loads((tmp_path / f"{name}.json").read_text()) for name in configs]
        for table in tables:
            for cell in table["cells"]:  # how long answers took, and were, may depend on what shared their batch
                cell["score"] = {key: cell["score"][key] for key in ("n", "passed", "errors", "accuracy", "interval")}
        assert tables[0] == tables[1]
        rows = open_lake(configs["home"]).read("eval_results", columns=["run_id", "case_id"]).to_pylist()
        assert len(rows) == len({tuple(row.values()) for row in rows}) == 1200
    finally:
        nodes.stop()
