"""The ranker as a Serve application, found by its name, and done without where it is not there."""

import asyncio

import pytest

from flywheel.config import FlywheelConfig, RankerConfig, load
from flywheel.gateway.choosing.found import find_ranker
from flywheel.gateway.choosing.rankers import Candidate, Desk
from flywheel.records import Message
from flywheel.telemetry import apply_environment

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ASKED = [Message(role="user", content="which one")]
TEXTS = ["red", "a longer answer", "blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from flywheel.quality.reward_fit import load as load_reward
    from flywheel.testing import make_tiny_model

    out = tmp_path_factory.mktemp("models") / "helpful-1"
    model, tokenizer = load_reward(make_tiny_model(out.parent / "base", hidden=32))
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def cluster():
    apply_environment()
    import ray
    from ray import serve

    ray.init(address="local", num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False)
    yield
    serve.shutdown()
    ray.shutdown()


def test_answers_are_scored_in_the_application_and_a_missing_one_is_a_reason(cluster, folder):
    from flywheel.inference import rankers
    from flywheel.inference.ranker_server import TextScorer

    settings = RankerConfig(model=str(folder), num_cpus=0.1)
    assert rankers.start(settings) == "helpful-1"
    candidates = [Candidate(text) for text in TEXTS]

    def desk(version):
        config = load(FlywheelConfig, None, {"gateway.ranker.model": str(folder), "gateway.ranker.version": version})
        return Desk(find_ranker("reward", config), timeout_s=60)

    async def ask():
        one = desk("helpful-1")
        return await one.opinion(ASKED, candidates), await desk("helpful-2").opinion(ASKED, candidates)

    there, missing = asyncio.run(ask())
    expected = TextScorer(folder, settings)([message.model_dump() for message in ASKED], TEXTS)
    assert there.scores == pytest.approx(expected, abs=1e-4)
    assert (there.version, there.fallback) == ("helpful-1", None)
    assert (missing.scores, missing.fallback) == (None, "unavailable")
