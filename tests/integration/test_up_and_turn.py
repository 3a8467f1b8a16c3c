"""What a platform engineer does in a day, through the command line: up, traffic, feedback, a turn, a redeploy, down.

One instance for the whole module; its model is random, so the gate must say no.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import small_flow
import yaml

from flywheel.config import FlywheelConfig, load
from flywheel.lake.tables import open_lake
from flywheel.records import Decision, Feedback, Inference
from flywheel.workflow.cluster import free_port
from flywheel.workflow.turns.steps import TurnHandle
from flywheel.workflow.turns.turn import STEP_NAMES, step_key

pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CONSENT = {"x-flywheel-consent": "training,evaluation"}
INTERACTIONS = 240


def flywheel(*arguments, config, timeout=400):
    command = [sys.executable, "-c", "from flywheel.cli import main; main()", *arguments, "--config", str(config)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    from flywheel.testing import make_tiny_model

    folder = tmp_path_factory.mktemp("instance")
    settings = yaml.safe_load((ROOT / "configs/ci/flywheel.yaml").read_text())
    settings["home"] = str(folder / "home")
    settings["cluster"]["dashboard_port"] = free_port()
    settings["gateway"] = {"port": free_port()}
    settings["rollout"]["gate"]["require_shadow"] = False
    config = folder / "flywheel.yaml"
    config.write_text(yaml.safe_dump(settings))
    model = make_tiny_model(folder / "model")
    up = flywheel("up", "--model", str(model), "--json", config=config)
    assert up.returncode == 0, up.stderr
    yield {"config": config, "settings": load(FlywheelConfig, config), **json.loads(up.stdout)}
    down = flywheel("down", config=config)
    assert "stopped" in down.stdout
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{settings['gateway']['port']}/healthz")


def live(instance):
    state = json.loads(flywheel("status", "--json", config=instance["config"]).stdout)
    return state["live"]["version"], state["candidates"]


def test_the_openai_client_streams_and_its_feedback_is_in_the_lake_within_30_seconds(instance):
    from openai import OpenAI

    client = OpenAI(base_url=f"{instance['url']}/v1", api_key="none")
    ticket, chunks = None, 0
    stream = client.chat.completions.create(
        model="triage",
        messages=[{"role": "user", "content": "my order never arrived"}],
        user="ada",
        max_tokens=12,
        stream=True,
        extra_headers=CONSENT,
    )
    for chunk in stream:
        ticket = ticket or (chunk.model_extra or {}).get("flywheel")
        chunks += 1
    assert ticket
    assert chunks > 1
    sent = client.post(
        "/feedback",
        cast_to=dict,
        body={
            "inference_id": ticket["inference_id"],
            "feedback_token": ticket["feedback_token"],
            "kind": "correction",
            "text": '{"intent":"delivery"}',
        },
    )
    acknowledged = time.monotonic()
    lake = open_lake(instance["settings"])
    while time.monotonic() - acknowledged < 30:
        events = [row for row in lake.records("feedback", Feedback) if row.feedback_id == sent["feedback_id"]]
        rows = [row for row in lake.records("inferences", Inference) if row.inference_id == ticket["inference_id"]]
        if events and rows:
            break
        time.sleep(0.3)
    assert events[0].inference_id == rows[0].inference_id
    assert events[0].subject == rows[0].subject != "ada"
    assert rows[0].consent == ["training", "evaluation"]


def test_a_second_up_finds_the_first_and_another_home_is_told_about_the_port(instance, tmp_path):
    again = flywheel("up", "--json", config=instance["config"])
    assert json.loads(again.stdout)["fresh"] is False
    other = yaml.safe_load(instance["config"].read_text())
    other["home"] = str(tmp_path / "other")
    (tmp_path / "flywheel.yaml").write_text(yaml.safe_dump(other))
    refused = flywheel("up", "--model", instance["live"], config=tmp_path / "flywheel.yaml")
    assert refused.returncode in {1, 2}
    assert refused.stderr.startswith("error: ")


def test_down_ends_what_is_still_starting(instance, tmp_path):
    content = yaml.safe_load(instance["config"].read_text())
    content["home"] = str(tmp_path / "home")
    content["cluster"]["dashboard_port"] = free_port()
    content["gateway"] = {"port": free_port()}
    config = tmp_path / "flywheel.yaml"
    config.write_text(yaml.safe_dump(content))
    model = instance["config"].parent / "model"
    command = [sys.executable, "-m", "flywheel", "up", "--model", str(model), "--config", str(config)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "home/run/starting.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
    supervisor = json.loads((tmp_path / "home/run/starting.json").read_text())["pid"]
    assert "stopped" in flywheel("down", config=config).stdout
    psutil.wait_procs([psutil.Process(supervisor)] if psutil.pid_exists(supervisor) else [], timeout=10)
    assert not psutil.pid_exists(supervisor) or psutil.Process(supervisor).status() == psutil.STATUS_ZOMBIE
    assert "nothing was running" in flywheel("down", config=config).stdout


def test_redeploying_and_restarting_the_gateway_change_no_model(instance):
    before = live(instance)
    code = (
        "from pathlib import Path; from flywheel.config import FlywheelConfig, load\n"
        "from flywheel.workflow.cluster import connected\n"
        f"path = Path({str(instance['settings'].home_path() / 'run' / 'config.yaml')!r})\n"
        "config = load(FlywheelConfig, path)\n"
        "with connected(config):\n"
        "    from flywheel.gateway.deploy import deploy\n"
        "    deploy(path, config)\n"
        "    from ray.serve.context import _get_global_client\n"
        "    apps = _get_global_client().get_serve_details()['applications']\n"
        "    print([r['pid'] for d in apps['gateway']['deployments'].values() for r in d['replicas']][0])\n"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert live(instance) == before
    os.kill(int(done.stdout.split()[-1]), signal.SIGKILL)
    deadline = time.monotonic() + 60
    answered = None
    while time.monotonic() < deadline and answered is None:
        try:
            answer = httpx.get(f"{instance['url']}/readyz", timeout=5)
            answered = answer.json()["live"] if answer.status_code == 200 else None
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    assert answered == before[0]
    assert live(instance) == before


def import_traffic(instance, folder):
    """Logs with two customers in three corrected, and a reviewer who knows the truth."""
    path = small_flow.write_logs(folder / "logs.jsonl", INTERACTIONS)
    for _ in range(2):
        done = flywheel("import", str(path), "--json", config=instance["config"])
        assert done.returncode == 0, done.stderr
    cases = small_flow.write_old_cases(folder / "cases.jsonl")
    assert flywheel("cases", "import", str(cases), config=instance["config"]).returncode == 0
    return small_flow.label(instance["settings"], INTERACTIONS)


def test_a_turn_that_is_killed_goes_on_and_the_gate_refuses_a_random_model(instance, tmp_path):
    lake = import_traffic(instance, tmp_path)
    imported = [row for row in lake.records("inferences", Inference) if row.traffic_kind == "import"]
    assert len(imported) == INTERACTIONS
    turn = TurnHandle(lake.store, "triage", "turn-0001")
    command = [sys.executable, "-c", "from flywheel.cli import main; main()", "turn", "-c", str(instance["config"])]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    with (tmp_path / "turn.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + 200
        while turn.read(step_key("reward")) is None:
            assert process.poll() is None, (tmp_path / "turn.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    stored = {name: lake.store.get(turn.key(step_key(name))) for name in STEP_NAMES[: STEP_NAMES.index("reward") + 1]}
    done = flywheel("turn", "--json", config=instance["config"], timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert {name: lake.store.get(turn.key(step_key(name))) for name in stored} == stored  # nothing ran twice
    assert (result["id"], result["decision"], result["live"]) == ("turn-0001", "reject", instance["live"])
    assert result["funnel"]["captured"] > result["funnel"]["consented"] > result["funnel"]["kept"] > 0
    dropped = sum(result["funnel"]["dropped"].values())
    assert result["funnel"]["captured"] == result["funnel"]["kept"] + dropped
    assert "Not promoted" in Path(result["report"]).read_text()
    verdicts = [row for row in lake.records("decisions", Decision) if row.action == "gate"]
    assert [row.verdict for row in verdicts] == ["reject"]
    assert live(instance)[0] == instance["live"]


def test_evaluate_gives_intervals_as_json(instance):
    done = flywheel("evaluate", "--model", "live", "--suite", "old-intents", "--json", config=instance["config"])
    assert done.returncode == 0, done.stderr
    suite = json.loads(done.stdout)["suites"]["old-intents"]
    low, high = suite["interval"]
    assert (suite["n"], suite["errors"]) == (60, 0)
    assert low <= suite["accuracy"] <= high
