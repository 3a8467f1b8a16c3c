"""The sweep with real Tune trials over signals in a real lake."""

import io
import os
import pickle
from xml.etree import ElementTree

import pytest
import small_sweep
from rich.console import Console

from flywheel.config import FilterConfig, FlywheelConfig, QualityConfig, SweepConfig, load
from flywheel.errors import UsageError
from flywheel.lake.manifests import read_manifest
from flywheel.operate.render import TerminalProgress
from flywheel.workflow.sweeps import trials
from flywheel.workflow.sweeps.result import SweepResult
from flywheel.workflow.sweeps.sweep import sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster():
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a bare init would write a token into the user's home
    import ray

    from flywheel.telemetry import apply_environment

    apply_environment()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    yield
    ray.shutdown()


@pytest.fixture
def scored(tmp_path):
    lake, _, built, result, labels = small_sweep.world(tmp_path)
    return lake, built, result, labels


def test_finds_the_threshold_in_time_and_names_its_labels(cluster, scored, tmp_path):
    lake, built, result, labels = scored
    config, out = FlywheelConfig(flow="f"), tmp_path / "filter.yaml"
    screen = io.StringIO()  # a terminal has locks, which Tune must not try to pickle
    shown = TerminalProgress(Console(file=screen, force_terminal=True, width=200))
    found = sweep(lake, config, built, result, labels, out=out, progress=shown)
    assert "200/200" in screen.getvalue()
    assert (found.kept, found.right_kept) == (80, 80)
    assert found.start_kept == 100
    assert found.best != FilterConfig()
    assert found.best.version.startswith("sweep-")
    assert load(FilterConfig, out) == found.best
    used = FlywheelConfig(quality=QualityConfig(filter_file=out))
    assert used.quality.filter_file == out
    kind, identity = (found.manifest or "").split("/")
    assert read_manifest(lake, kind, identity).data["label_ids"] == [f"l{i:03d}" for i in range(100)]
    assert [(point.quality, point.kept) for point in found.front][-2:] == [(1.0, 80), (0.8, 100)]
    assert ElementTree.parse(tmp_path / "filter.svg").getroot().tag.endswith("svg")
    assert sweep(lake, config, built, result, labels, out=out) == found
    assert sweep(lake, config, built, result, labels, out=out, restart=True) == found  # chance has a seed


def test_finished_trials_are_never_run_again(cluster, scored, tmp_path, monkeypatch):
    lake, built, result, labels = scored
    log, real = tmp_path / "log", trials.study

    def logged(*arguments, **named):
        with log.open("a") as file:
            file.write(f"{named['seed']} {len(named['known'])}\n")
        return real(*arguments, **named)

    monkeypatch.setattr(trials, "study", logged)

    def run(count: int) -> SweepResult:
        some = SweepConfig(trials=count, proposals_per_trial=10, generation=2)
        return sweep(lake, FlywheelConfig(flow="f", sweep=some), built, result, labels, out=tmp_path / "filter.yaml")

    run(3)
    assert sorted(log.read_text().splitlines()) == ["0 0", "1 0", "2 20"]  # seed, outcomes of earlier generations
    log.unlink()
    found = run(5)
    assert sorted(log.read_text().splitlines()) == ["3 20", "4 40"]
    assert found.proposals == 50
    log.unlink()
    assert run(5) == found
    assert not log.exists()


def test_too_few_labels_leave_the_file_alone(cluster, scored, tmp_path):
    lake, built, result, labels = scored
    with pytest.raises(UsageError, match="flywheel label"):
        sweep(lake, FlywheelConfig(flow="f"), built, result, labels[:10], out=tmp_path / "filter.yaml")
    assert not (tmp_path / "filter.yaml").exists()


def test_a_generation_waits_for_the_one_before():
    from flywheel.workflow.sweeps.tuning import Generations, Told

    searcher = Generations([5, 1, 2, 3], 2)  # 0 and 4 are finished
    assert searcher.suggest("a") == {"trial": 1}
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", {"value": 1.0})
    assert [searcher.suggest(name) for name in "bc"] == [{"trial": 2}, {"trial": 3}]
    searcher.on_trial_complete("c", error=True)
    assert searcher.suggest("d") is None
    searcher.on_trial_complete("b", {"value": 1.0})
    assert searcher.suggest("d") == {"trial": 5}
    assert searcher.suggest("e") == "FINISHED"
    told = Told(TerminalProgress(Console(file=io.StringIO(), force_terminal=True)), total=20, each=5, done=1)
    assert pickle.loads(pickle.dumps([told, searcher]))
