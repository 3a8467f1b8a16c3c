"""A rollout on a real Ray cluster: real gateway, controller and capture, engines of the same shape without weights.

With FLYWHEEL_LONG=1 the live model is a tiny one on a real vLLM engine.
"""

import os
import time

import pytest
from rollout_cluster import Cluster, Traffic, wait, without_weights

from flywheel.rollout.machine import take
from flywheel.rollout.routing import Variant

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LONG = bool(os.environ.get("FLYWHEEL_LONG"))
STEP = {"min_minutes": 30, "min_requests": 50, "quality": "off", "silence_s": 20}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    from flywheel.testing import make_tiny_model

    home = tmp_path_factory.mktemp("rollout")
    folder = str(make_tiny_model(home / "tiny")) if LONG else "/none"
    made = Cluster(home, rollout={"canary_steps": [0.25, 0.5], "step": STEP})
    with made.running(Variant(version="v1", folder=folder), fake=not LONG):
        yield made


@pytest.mark.parametrize(("fault", "guard"), [("error", "errors"), ("empty", "empty answers")])
def test_a_planted_regression_is_taken_back_within_30_seconds_and_no_user_sees_a_failure(cluster, fault, guard):
    from flywheel.testing_faults import deploy_faulty_engine, plant

    version = f"bad-{fault}"
    deploy_faulty_engine(version)
    cluster.passed(version)
    with Traffic(cluster.url) as traffic:
        take.begin(cluster.lake, cluster.config, without_weights(version), reason="gate: promote")
        wait(lambda: cluster.routing.canaries, 30, "the canary's first step")
        assert cluster.routing.canaries[0].share == 0.25
        wait(lambda: (cluster.sight(version).get("requests") or 0) >= 20, 60, "its first answers")
        plant(version, fault)
        onset = time.monotonic()
        wait(lambda: not cluster.routing.canaries, 30, "the rollback")
        seconds = time.monotonic() - onset
    state = cluster.routing
    assert (state.live.version, state.actor) == ("v1", "rollout")
    assert guard in state.reason
    assert traffic.failed == []
    print(f"{fault}: back after {seconds:.1f} s, {len(traffic.acknowledged)} answers")


def test_a_candidate_without_a_place_is_said_and_harms_nobody(cluster):
    cluster.passed("nowhere")
    with Traffic(cluster.url) as traffic:
        take.begin(cluster.lake, cluster.config, without_weights("nowhere"), reason="gate: promote")
        found = wait(lambda: cluster.sight("nowhere").get("obstacle"), 60, "why it is not served")
    assert "/none" in found
    assert cluster.sight("nowhere")["ready"] is False
    assert cluster.routing.canaries == []
    assert traffic.failed == []
    take.back(cluster.lake, cluster.config, "nowhere", reason="end", actor="test")
