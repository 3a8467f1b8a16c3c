"""The whole set of processes on a real Ray cluster with a real (tiny) vLLM engine, once for this module."""

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from rollout_cluster import free_port, wait

from flywheel.config import FlywheelConfig, dump, load
from flywheel.records import Message
from flywheel.rollout import routing
from flywheel.rollout.routing import Shadow, Variant
from flywheel.telemetry import apply_environment

pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.slow]

CONSENT = {"x-flywheel-consent": "training,evaluation"}
WHO = {"actor": "test", "reason": "test"}


@dataclass
class Cluster:
    config: FlywheelConfig
    path: Path
    url: str

    def store(self):
        from flywheel.lake.store import ObjectStore

        return ObjectStore(self.config.lake_uri())

    def table(self, name):
        from flywheel.lake.tables import open_lake

        return open_lake(self.config).read(name).to_pylist()

    def pids(self):
        from ray.serve.context import _get_global_client

        details = _get_global_client().get_serve_details()["applications"]
        return {
            name: [r.get("pid") for d in app["deployments"].values() for r in d["replicas"]]
            for name, app in details.items()
        }

    def ready(self):
        answer = httpx.get(f"{self.url}/readyz", timeout=10)
        return answer.json() if answer.status_code == 200 else None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    apply_environment()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    from ray import serve

    from flywheel.gateway.deploy import deploy
    from flywheel.testing import make_tiny_model

    home = tmp_path_factory.mktemp("gateway")
    port = free_port()
    config = load(FlywheelConfig, None, {"home": str(home), "gateway.port": port, "engine.request_timeout_s": 20})
    path = home / "flywheel.yaml"
    dump(config, path)
    running = Cluster(config, path, f"http://127.0.0.1:{port}")
    model = make_tiny_model(home / "tiny")
    routing.publish(
        running.store(), routing.bootstrap("triage", Variant(version="v1", folder=str(model)), actor="test")
    )
    ray.init(
        address="local",
        num_cpus=8,
        object_store_memory=200 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        deploy(path, config)
        wait(running.ready, 240, "the live engine")
        yield running
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.fixture
def client(cluster):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def ask(text, **more):
    return {
        "model": "triage",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 12,
        "temperature": 0,
        **more,
    }


def test_the_openai_client_streams_rates_and_the_joined_row_is_in_the_lake_within_30_s(cluster, client):
    started = time.monotonic()
    with client.chat.completions.with_streaming_response.create(
        **ask("please help", stream=True, user="ann"), extra_headers=CONSENT
    ) as response:
        inference, token = response.headers["x-flywheel-inference-id"], response.headers["x-flywheel-feedback-token"]
        lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in (json.loads(x[6:]) for x in lines[:-1]))
    body = {"inference_id": inference, "feedback_token": token, "kind": "correction", "text": "better", "user": "ann"}
    answer = client.post("/feedback", body=body, cast_to=httpx.Response)
    assert answer.json()["feedback_id"]
    feedback = wait(
        lambda: [r for r in cluster.table("feedback") if r["inference_id"] == inference], 30, "the feedback"
    )
    (row,) = [r for r in cluster.table("inferences") if r["inference_id"] == inference]
    assert time.monotonic() - started < 30
    assert row["choices"] == [text]
    assert row["completion_tokens"] == 12
    assert row["subject"] == feedback[0]["subject"] != "ann"


def test_unary_and_stream_say_the_same(cluster, client):
    whole = client.chat.completions.create(**ask("the same"))
    parts = list(client.chat.completions.create(**ask("the same", stream=True)))
    assert whole.choices[0].message.content == "".join(p.choices[0].delta.content or "" for p in parts)
    assert {p.id for p in parts} == {parts[0].id}
    assert whole.model == parts[0].model == "v1"
    assert whole.usage.completion_tokens == 12


def test_an_engines_refusal_is_the_clients_error(cluster, client):
    import openai

    with pytest.raises(openai.BadRequestError, match=r"maximum|context|length"):
        client.chat.completions.create(**ask("word " * 2000))


def test_prompts_with_seeds_that_do_not_fit_into_one_step_together_are_all_answered(cluster, client):
    """vLLM's CPU engine died of a seeded prompt that was split over two steps."""

    def answer(seed):
        text = f"{seed} " + "word " * 40
        return client.chat.completions.create(**ask(text, seed=seed, temperature=1)).choices[0].message.content

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(answer, range(32)))  # 503 where the engine died
    assert all(isinstance(text, str) for text in found)


def test_generate_answers_many_in_order_and_as_the_gateway_does(cluster, client):
    from flywheel.errors import EngineError
    from flywheel.inference.generate import generate

    texts = [f"number {i}" for i in range(80)]
    answers = generate("v1", [[Message(role="user", content=text)] for text in texts], max_tokens=12)
    assert not [a.error for a in answers if a.error]
    for place in (0, 41, 79):
        assert client.chat.completions.create(**ask(texts[place])).choices[0].message.content == answers[place].text
    too_long = [Message(role="user", content="word " * 2000)]
    mixed = generate("v1", [too_long, [Message(role="user", content="short")]], max_tokens=12)
    assert [a.error is None for a in mixed] == [False, True]
    with pytest.raises(EngineError, match="nobody"):
        generate("nobody", [too_long], max_tokens=1)


def test_a_client_that_leaves_is_recorded(cluster):
    with (
        httpx.Client(timeout=30) as leaving,
        leaving.stream(
            "POST", f"{cluster.url}/v1/chat/completions", json=ask("leave", stream=True, max_tokens=200)
        ) as answer,
    ):
        inference = answer.headers["x-flywheel-inference-id"]
        next(answer.iter_lines())
    rows = wait(lambda: [r for r in cluster.table("inferences") if r["inference_id"] == inference], 30, "the row")
    assert rows[0]["finish_reason"] == "client_disconnect"


def test_redeploying_changes_no_process_and_no_model(cluster):
    from flywheel.gateway.deploy import deploy

    before = cluster.pids()
    deploy(cluster.path, cluster.config)
    time.sleep(2)
    assert cluster.pids() == before
    assert cluster.ready()["live"] == "v1"


def test_shadow_promotion_and_a_gateway_that_dies(cluster):
    """With engines of the same shape but no weights: the routes between the processes are what is tested."""
    from flywheel.testing import deploy_fake_engine

    deploy_fake_engine("v2")
    store = cluster.store()
    state = routing.with_shadow(routing.current(store, "triage"), Shadow(version="v2", folder="/none"), **WHO)
    routing.publish(store, state)
    url = f"{cluster.url}/v1/chat/completions"

    def pairs():
        httpx.post(url, json=ask("mirror me"), headers=CONSENT, timeout=30).raise_for_status()
        return [p for p in cluster.table("shadow_pairs") if p["candidate"] == "v2"]

    found = wait(pairs, 30, "a shadow pair")
    assert found[0]["candidate_answer"] == "MIRROR ME"
    assert found[0]["live_version"] == "v1"

    routing.publish(store, routing.promoted(state, "v2", **WHO))
    wait(lambda: (cluster.ready() or {}).get("live") == "v2", 15, "the promotion")
    assert httpx.post(url, json=ask("loud"), timeout=30).json()["choices"][0]["message"]["content"] == "LOUD"

    (pid,) = cluster.pids()["gateway"]
    os.kill(pid, 9)
    wait(lambda: cluster.pids()["gateway"] not in ([pid], [None], []) and _alive(cluster), 60, "a new gateway")
    assert cluster.ready()["live"] == "v2"


def _alive(cluster):
    try:
        return cluster.ready()
    except httpx.HTTPError:
        return None
