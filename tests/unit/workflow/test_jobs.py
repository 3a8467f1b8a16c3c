"""The files under ``jobs/``: what they keep must outlast the job, and what goes wrong is said in a sentence."""

import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from flywheel.errors import ConfigError
from flywheel.workflow.turns.job import RAY_JOB, job_config

ROOT = Path(__file__).parents[3]
BEYOND_THE_OPTIONS = {
    "export": ["feedback", "--out", "out.jsonl"],
    "forget": ["--user", "ann"],
    "import_logs": ["logs.jsonl"],
    "policy": ["question.yaml"],
}


def options(*pairs: str) -> Namespace:
    return Namespace(config=None, set=list(pairs))


def job(name: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


def test_the_variable_is_the_one_that_ray_reads():
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    assert RAY_JOB_CONFIG_JSON_ENV_VAR == RAY_JOB


@pytest.mark.parametrize(
    ("pairs", "key"),
    [([], "home"), (["home=state"], "home"), (["home=/state", "lake.uri=lake"], "lake.uri")],
)
def test_a_submitted_job_keeps_nothing_below_its_working_folder(monkeypatch, pairs, key):
    monkeypatch.delenv(RAY_JOB, raising=False)
    job_config(options(*pairs))
    monkeypatch.setenv(RAY_JOB, "{}")
    with pytest.raises(ConfigError, match=f"^{key} is .*--set {key}="):
        job_config(options(*pairs))


def test_a_submitted_job_writes_no_file_where_it_is_removed(monkeypatch, tmp_path):
    monkeypatch.setenv(RAY_JOB, "{}")
    given = options("home=/state")
    given.out = Path("filter.yaml")
    with pytest.raises(ConfigError, match=r"^--out is filter.yaml, relative .*: --out /some/file"):
        job_config(given)
    given.out = tmp_path / "filter.yaml"
    job_config(given)
    given.out = Path("~/filter.yaml")
    job_config(given)
    assert given.out == Path.home() / "filter.yaml"


def test_what_a_job_writes_is_for_its_user_alone(tmp_path):
    before = os.umask(0o022)
    try:
        job_config(options())
        (tmp_path / "written").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "written").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "pairs", [["home=/state"], ["home=~/state", "lake.uri=s3://bucket/x"], ["home=/a", "lake.uri=/b"]]
)
def test_places_that_last_are_fine(monkeypatch, pairs):
    monkeypatch.setenv(RAY_JOB, "{}")
    job_config(options(*pairs))


@pytest.mark.parametrize("name", BEYOND_THE_OPTIONS)
def test_what_went_wrong_is_a_sentence(name, tmp_path):
    (tmp_path / "flow.yaml").write_text("home: .flywheel")
    done = job(name, "--config", "flow.yaml", *BEYOND_THE_OPTIONS[name], cwd=tmp_path, **{RAY_JOB: "{}"})
    assert done.returncode == 1
    assert done.stderr.startswith("error: home is .flywheel, relative to the working folder")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / ".flywheel").exists()


def test_an_import_says_what_it_did(tmp_path):
    line = {
        "flow": "triage",
        "consent": [],
        "user": "ann",
        "ts": "2026-01-01T00:00:00Z",
        "response": "y",
        "messages": [{"role": "user", "content": "x"}],
    }
    (tmp_path / "logs.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "flow.yaml").write_text(f"home: {tmp_path / 'home'}")
    done = job("import_logs", "--config", "flow.yaml", "logs.jsonl", cwd=tmp_path, **{RAY_JOB: "{}"})
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["inferences"] == 1
