"""The sweep with real Tune trials over signals in a real lake."""

import os
import time
from datetime import UTC, datetime

import pytest

from flywheel.config import FilterConfig, FlywheelConfig, QualityConfig, load
from flywheel.errors import UsageError
from flywheel.lake.manifests import read_manifest
from flywheel.lake.tables import Lake
from flywheel.quality.artifacts import write_rows
from flywheel.quality.build import BuildResult
from flywheel.quality.rows import TUNE, Candidate
from flywheel.quality.score import ScoreResult
from flywheel.records import Label, Message, Signal
from flywheel.workflow.sweeps.sweep import sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def cluster():
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a bare init would write a token into the user's home
    import ray

    from flywheel.telemetry import apply_environment

    apply_environment()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    yield
    ray.shutdown()


@pytest.fixture
def scored(tmp_path):
    """100 rows held out for tuning; one in five is wrong, and only a low agreement shows it."""
    lake = Lake(str(tmp_path / "lake"))
    rows = [
        Candidate(inference_id=f"{i:03d}", flow="f", subject="s", rater="s", ts=NOW, answer="no", origin="correction",
                  target="bad" if i % 5 == 0 else "good", held_out=TUNE, messages=[Message(role="user", content="x")])
        for i in range(100)
    ]  # fmt: skip
    write_rows(tmp_path / "work" / "candidates.jsonl", rows)
    signals = [Signal(inference_id=row.inference_id, signal="agreement", version="v",
                      value=0.3 if row.target == "bad" else 0.6) for row in rows]  # fmt: skip
    lake.append("signals", signals, app="test", version=1, flow="f")
    built = BuildResult(id="c", folder=str(tmp_path / "work"), captured=100, consented=100, candidates=0,
                        held_out=100, corrections=0, liked=0, dropped={})  # fmt: skip
    labels = [Label(label_id=f"l{row.inference_id}", inference_id=row.inference_id, flow="f", subject="s",
                    annotator="r", ts=NOW, kind="correct", correction="Good", split="tune")
              for row in rows]  # fmt: skip
    result = ScoreResult(version="v", table_version=lake.version("signals") or 0, rows=100, reused=False)
    return lake, built, result, labels


def test_finds_the_threshold_in_time_and_names_its_labels(cluster, scored, tmp_path):
    lake, built, result, labels = scored
    config, out = FlywheelConfig(flow="f"), tmp_path / "filter.yaml"
    started = time.monotonic()
    found = sweep(lake, config, built, result, labels, out=out)
    assert time.monotonic() - started < 90  # under 20 s on an idle machine
    assert (found.kept, found.right_kept) == (80, 80)
    assert found.start_kept == 100
    assert found.best != FilterConfig()
    assert found.best.version.startswith("sweep-")
    assert load(FilterConfig, out) == found.best
    used = FlywheelConfig(quality=QualityConfig(filter_file=out))
    assert used.quality.filter_file == out
    kind, identity = (found.manifest or "").split("/")
    assert read_manifest(lake, kind, identity).data["label_ids"] == [f"l{i:03d}" for i in range(100)]
    again = sweep(lake, config, built, result, labels, out=out)
    assert again == found


def test_too_few_labels_leave_the_file_alone(cluster, scored, tmp_path):
    lake, built, result, labels = scored
    with pytest.raises(UsageError, match="flywheel label"):
        sweep(lake, FlywheelConfig(flow="f"), built, result, labels[:10], out=tmp_path / "filter.yaml")
    assert not (tmp_path / "filter.yaml").exists()
