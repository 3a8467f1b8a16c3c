from flywheel.config import EngineConfig
from flywheel.inference.engines import app_name
from flywheel.inference.server import bundles, engine_kwargs


def test_app_name():
    assert app_name("v1") == "engine-v1"


def test_cpu_engine_takes_one_bundle():
    assert bundles(EngineConfig(num_cpus=0.5)) == [{"CPU": 0.5}]


def test_gpu_engine_takes_a_bundle_a_gpu_and_the_replica_rides_in_the_first():
    config = EngineConfig(num_gpus=2, tensor_parallel_size=2, accelerator_type="A10G", num_cpus=1)
    gpu = {"GPU": 1.0, "accelerator_type:A10G": 0.001}
    assert bundles(config) == [{"CPU": 1.0, **gpu}, gpu]


def test_a_share_of_a_gpu():
    assert bundles(EngineConfig(num_gpus=0.5))[0]["GPU"] == 0.5


def test_on_cpu_the_last_place_for_adapters_is_never_used():
    assert "max_loras" not in engine_kwargs(EngineConfig())
    assert engine_kwargs(EngineConfig(enable_lora=True, max_loras=2))["max_loras"] > 2 * 2
    assert engine_kwargs(EngineConfig(enable_lora=True, max_loras=2, num_gpus=1))["max_loras"] == 2


def test_a_cpu_engine_never_splits_a_prompt():
    cpu, gpu = engine_kwargs(EngineConfig(max_model_len=4096)), engine_kwargs(EngineConfig(num_gpus=1))
    assert not cpu["enable_chunked_prefill"]
    assert cpu["max_num_batched_tokens"] >= 4096  # else vLLM refuses longer prompts
    assert gpu["enable_chunked_prefill"]
