"""A LoRA candidate on a real engine: it answers otherwise than its base, the base stays as it is, and it can leave."""

import asyncio
import logging
import os

import pytest

from flywheel.config import EngineConfig
from flywheel.telemetry import apply_environment

pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.slow]


def make_adapter(model, folder, safe=True):
    """An adapter with weights large enough to change a greedy answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    settings = LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    made = get_peft_model(AutoModelForCausalLM.from_pretrained(model), settings)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5)
    made.save_pretrained(folder, safe_serialization=safe)
    return str(folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    apply_environment()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    from ray import serve

    from flywheel.inference import engines
    from flywheel.testing import make_tiny_model

    home = tmp_path_factory.mktemp("rider")
    model = make_tiny_model(home / "tiny")
    adapter = make_adapter(model, home / "adapter")
    ray.init(
        address="local",
        num_cpus=4,
        object_store_memory=100 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        engines.start("v1", str(model), EngineConfig(enable_lora=True, max_loras=1))
        yield adapter, str(model)
    finally:
        serve.shutdown()
        ray.shutdown()


def body(version, **more):
    messages = [{"role": "user", "content": "tell me something"}]
    return {"model": version, "messages": messages, "max_tokens": 16, "temperature": 0, **more}


def test_an_adapter_rides_on_the_live_engine_and_leaves_it_as_it_was(served):
    from flywheel.gateway.engine_client import ServeEngines
    from flywheel.gateway.problems import ApiProblem
    from flywheel.gateway.shadow.heard import listen
    from flywheel.gateway.shadow.limits import Limits
    from flywheel.inference import hints
    from flywheel.rollout.riders import Rider

    adapter, model = served
    limits = Limits(1, 1, 60, None, None, 10, 100_000)

    async def use():
        engines = ServeEngines()

        async def said(version):
            return (await engines.chat(version, body(version), 60))["choices"][0]["message"]["content"]

        async def ready(version):
            for _ in range(60):
                if await engines.ready(version):
                    return True
                await asyncio.sleep(0.5)
            return False

        before = await said("v1")
        engines.place({"v2": Rider("v1", adapter)})
        assert await ready("v2")
        rider = await said("v2")
        assert rider != before
        both = await asyncio.gather(*(said(version) for version in ("v1", "v2") * 4))
        assert both == [before, rider] * 4, "in one batch each answers as itself"

        asked = hints.give(body("v2", stream=True, priority=10), coalesce=True, max_bytes=10**6)
        asked["stream_options"] = {"include_usage": True}
        heard = await listen(engines.stream("v2", asked, 60), limits)
        assert (heard.answer, heard.error, heard.completion_tokens) == (rider, None, 16)
        assert 0 < heard.ttft_ms < heard.latency_ms

        engines.place({"v2": Rider("v1", model)})
        assert not await engines.ready("v2"), "whole weights are no adapter"
        with pytest.raises(ApiProblem):
            await engines.chat("v2", body("v2"), 60)

        engines.place({"v2": Rider("v1", adapter)})
        assert await ready("v2")
        engines.place({})
        await asyncio.sleep(1)
        handle = await engines._handle("v1")
        refused = await handle.chat.remote(body("v2"))
        assert "does not exist" in refused["error"]["message"], "it was unloaded"
        assert await said("v1") == before

    asyncio.run(use())
