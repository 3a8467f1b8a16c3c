"""The Serve deployment around one vLLM engine: the one file that knows ray.serve.llm's alpha API.

Requests and answers are plain dicts in OpenAI's shape, so callers (gateway, evaluation) import neither vLLM
nor torch. ``LLMServer`` is held, not inherited, for the same reason: the process that *deploys* an engine
stays light, only the replica pays the imports.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from pydantic import ValidationError

from flywheel.config import EngineConfig
from flywheel.errors import ModelError
from flywheel.inference import hints
from flywheel.inference.adapters import Adapters
from flywheel.inference.coalesce import coalesced
from flywheel.inference.streaming import batches
from flywheel.telemetry import apply_environment

REFUSALS = (ValueError, TypeError, OverflowError, NotImplementedError)
CALLBACK = "flywheel.inference.server.local_folder_callback"


class EngineServer:
    """One model version behind a Serve handle."""

    async def __init__(self, version: str, folder: str, config: dict[str, Any]) -> None:
        """Load the model and wait until it can answer.

        Args:
            version: served model name.
            folder: weights, a local folder or an address that ray.serve.llm can download.
            config: an ``EngineConfig`` as a dict.
        """
        self._version = version
        settings = EngineConfig.model_validate(config)
        self._stream_interval_s = settings.stream_interval_ms / 1e3
        _prepare_process(settings)
        from ray.serve.llm.deployment import LLMServer

        engine = _single_process_engine() if settings.num_gpus == 0 and settings.tensor_parallel_size == 1 else None
        self._policy = settings.scheduling_policy
        self._server = LLMServer.sync_init(llm_config(version, folder, settings), engine_cls=engine)
        await self._server.start()
        self._adapters = Adapters(settings, load=self._load, unload=self._unload)

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """One whole answer: an OpenAI ``chat.completion`` dict, or ``{"error": {"message", "type", "code"}}``.

        A body with ``prompt`` in place of ``messages`` is completed without a chat template (``text_completion``).
        """
        request, wanted = self._read(body)
        if wanted.adapter and (failure := await self._adapters.failure(body["model"], wanted.adapter)):
            return failure
        try:
            answers = [answer async for answer in await self._ask(request)]
        except REFUSALS as error:
            return refusal(error)
        return _as_dict(answers[-1] if answers else None)

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """The answer as server-sent events (``data: {...}`` blocks), ``data: [DONE]`` last. Errors as one block.

        A piece holds one event or several, see ``streaming.batches``; of a mirrored answer, see ``coalesce``.
        """
        request, wanted = self._read(body)
        if wanted.adapter and (failure := await self._adapters.failure(body["model"], wanted.adapter)):
            yield f"data: {_dump(failure)}\n\n"
            return
        blocks = self._events({**request, "stream": True})
        pieces = coalesced(blocks, wanted.max_bytes) if wanted.coalesce else batches(blocks, self._stream_interval_s)
        async for piece in pieces:
            yield piece

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        try:
            async for blocks in await self._ask(body):
                for block in blocks if isinstance(blocks, list) else [blocks]:
                    yield block if isinstance(block, str) else f"data: {_dump(_as_dict(block))}\n\n"
        except REFUSALS as error:
            yield f"data: {_dump(refusal(error))}\n\n"

    async def _ask(self, body: dict[str, Any]) -> Any:
        from ray.serve.llm.openai_api_models import ChatCompletionRequest, CompletionRequest

        if "prompt" in body:
            return await self._server.completions(CompletionRequest(**body))
        return await self._server.chat(ChatCompletionRequest(**body))

    def _read(self, body: dict[str, Any]) -> tuple[dict[str, Any], hints.Hints]:
        """The request as vLLM takes it, and what the gateway says about it."""
        request, wanted = hints.take(body)
        if self._policy != "priority":
            request.pop("priority", None)  # vLLM refuses it then
        return request, wanted

    async def generate(self, bodies: list[dict[str, Any]], concurrency: int, timeout_s: float) -> list[dict[str, Any]]:
        """Many answers in one call, in order: one Serve hop for a batch instead of one a request.

        Returns:
            Per body what ``chat`` returns plus ``latency_ms``; an item that failed or timed out holds ``error``.
        """
        gate = asyncio.Semaphore(concurrency)

        async def one(body: dict[str, Any]) -> dict[str, Any]:
            async with gate:
                started = time.perf_counter()
                try:
                    answer = await asyncio.wait_for(self.chat(body), timeout_s)
                except TimeoutError:
                    answer = _error(f"no answer within {timeout_s:g} s", 504)
                except Exception as error:  # noqa: BLE001  (one bad item must not fail its batch; it is returned)
                    answer = _error(f"{type(error).__name__}: {error}", 500)
                answer["latency_ms"] = (time.perf_counter() - started) * 1e3
                return answer

        return list(await asyncio.gather(*map(one, bodies)))

    async def ping(self) -> str:
        """The version, once the engine can answer."""
        return self._version

    async def load_adapter(self, version: str, folder: str) -> str:
        """Let ``version`` ride on this engine with the LoRA adapter in ``folder``; its name, once it can answer.

        Raises:
            ModelError: the adapter cannot be served here.
        """
        await self._adapters.use(version, folder)
        return version

    async def unload_adapter(self, version: str) -> None:
        """Let go of the adapter of ``version``. Not there: nothing happens."""
        await self._adapters.drop(version)

    async def _load(self, version: str, folder: str) -> None:
        """The two calls below are the ones that vLLM's own routes make; ray.serve.llm offers the first only."""
        from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

        engine: Any = self._server.engine
        said = await engine._oai_models.load_lora_adapter(LoadLoRAAdapterRequest(lora_name=version, lora_path=folder))
        if not isinstance(said, str):
            raise ModelError(f"the engine of '{self._version}' did not load {folder}: {said.error.message}")

    async def _unload(self, version: str) -> None:
        from vllm.entrypoints.serve.lora.protocol import UnloadLoRAAdapterRequest

        engine: Any = self._server.engine
        request = engine._oai_models.lora_requests.get(version)
        if request is not None:
            await engine._oai_models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=version))
            await engine._engine_client.remove_lora(request.lora_int_id)

    async def check_health(self) -> None:
        """Called by Serve; raises when the engine process is dead, so that the replica is replaced."""
        await self._server.check_health()


def llm_config(version: str, folder: str, config: EngineConfig) -> Any:
    """The ``ray.serve.llm.LLMConfig`` of one model version."""
    from ray.serve.llm import LLMConfig

    options: dict[str, Any] = {}
    if config.num_gpus == 0:
        options["placement_group_config"] = {"bundles": bundles(config)}
    else:
        options["accelerator_type"] = config.accelerator_type
        options["placement_group_config"] = {"bundles": _gpu_bundles(config)}
    if "://" not in folder:
        options["callback_config"] = {"callback_class": CALLBACK}
    tools: dict[str, Any] = {}
    if config.tool_call_parser:
        tools = {"enable_auto_tool_choice": True, "tool_call_parser": config.tool_call_parser}
    return LLMConfig(
        model_loading_config={"model_id": version, "model_source": folder},
        engine_kwargs={**engine_kwargs(config), **tools},
        experimental_configs={"stream_batching_interval_ms": 0},
        log_engine_metrics=False,
        **options,
    )


def engine_kwargs(config: EngineConfig) -> dict[str, Any]:
    """VLLM's engine arguments, for a Serve application and a batch job alike."""
    kwargs: dict[str, Any] = {
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        # The profiling run at start-up pushes this many tokens through; the default of 2,048 costs seconds on CPU.
        "max_num_batched_tokens": max(config.max_model_len, 512 if config.num_gpus == 0 else 2048),
        "dtype": config.dtype,
        "enforce_eager": config.enforce_eager,
        "generation_config": "vllm",  # sampling defaults come from requests, not from files in the model folder
        "disable_log_stats": True,
        "tensor_parallel_size": config.tensor_parallel_size,
        "scheduling_policy": config.scheduling_policy,
        # On CPU vLLM 0.29 dies of a prompt that it splits over two steps if its request has a seed: it rewinds the
        # random generator, which CPU generators cannot do. Every prompt fits into one step.
        "enable_chunked_prefill": config.num_gpus > 0,
    }
    if config.enable_lora:
        kwargs |= {"enable_lora": True, "max_loras": lora_slots(config), "max_lora_rank": config.max_lora_rank}
    if config.num_gpus == 0:
        kwargs["kv_cache_memory_bytes"] = int(config.kv_cache_gib * 2**30)
    elif config.num_gpus < config.tensor_parallel_size:
        kwargs["gpu_memory_utilization"] = 0.9 * config.num_gpus / config.tensor_parallel_size
    return kwargs


def lora_slots(config: EngineConfig) -> int:
    """Places for adapters in vLLM's memory.

    On CPU vLLM 0.29 marks requests without an adapter with -1 and then indexes its stacked weights with that: beside a
    request for an adapter, every request for the base would be answered by whatever lies in the *last* place. Places
    are filled from the first on, so the last stays empty (zeros, which change nothing) as long as there is always one
    more than can be in use: those loaded, and those that running requests still hold after they were let go.
    """
    return config.max_loras if config.num_gpus else 2 * config.max_loras + 1


def bundles(config: EngineConfig) -> list[dict[str, float]]:
    """Placement group of one engine: the replica rides in the first bundle, each worker has its GPU in one."""
    if config.num_gpus == 0:
        return [{"CPU": config.num_cpus}]
    first, *rest = _gpu_bundles(config)
    return [{"CPU": config.num_cpus, **first}, *rest]


def _gpu_bundles(config: EngineConfig) -> list[dict[str, float]]:
    bundle = {"GPU": config.num_gpus / config.tensor_parallel_size}
    if config.accelerator_type:
        bundle[f"accelerator_type:{config.accelerator_type}"] = 0.001
    return [dict(bundle) for _ in range(config.tensor_parallel_size)]


def local_folder_callback(**kwargs: Any) -> Any:
    """A ray.serve.llm callback that skips its download task: a local folder needs none.

    That task would import vLLM in one more worker process, which takes as long as loading a small model.
    """
    from ray.llm._internal.common.callbacks.base import CallbackBase

    callback = CallbackBase(**kwargs)
    callback.ctx.run_init_node = False
    return callback


def _single_process_engine() -> Any:
    """The engine class for CPU: the worker lives in the engine process.

    ray.serve.llm always asks for vLLM's multiprocess executor on CPU; that is one more process that imports
    vLLM (8 s and 0.7 GiB on a small machine) for nothing when there is one worker.
    """
    from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine

    class SingleProcessEngine(VLLMEngine):
        def _prepare_engine_config(self, callback_ctx: Any) -> Any:
            args, frontend, config = super()._prepare_engine_config(callback_ctx)
            config.parallel_config.distributed_executor_backend = "uni"
            return args, frontend, config

    return SingleProcessEngine


def _prepare_process(config: EngineConfig) -> None:
    """Environment of this replica and of the engine process it spawns; before vLLM and torch are imported."""
    apply_environment()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["VLLM_LOGGING_LEVEL"] = os.environ.get("VLLM_LOGGING_LEVEL", "WARNING")
    if config.num_gpus == 0:
        os.environ.update(cpu_environment(config))
        # Lets the worker stay inside the engine process, see _single_process_engine.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def cpu_environment(config: EngineConfig) -> dict[str, str]:
    """Threads of an engine on CPU."""
    return {
        "OMP_NUM_THREADS": str(config.threads),
        # Threads that wait must sleep, not spin: two engines of two threads on two cores answered 3.6 requests a
        # second between them when they spun (SmolLM2, 64 tokens in, 8 out), and 10 when they slept.
        "OMP_WAIT_POLICY": "PASSIVE",  # libgomp
        "KMP_BLOCKTIME": "0",  # Intel's and LLVM's runtimes
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # several engines share the cores: no pinning
    }


def refusal(error: Exception) -> dict[str, Any]:
    """An engine that does not take a request says so with one of ``REFUSALS``: the client's mistake, not a failure.

    vLLM's own server maps the same exceptions to 400. What pydantic says of a request quotes the request, which
    holds what a user said: only places and reasons are told.
    """
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return _error(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 400)
    return _error(str(error), 400)


def _as_dict(answer: Any) -> dict[str, Any]:
    if answer is None:
        return _error("the engine ended without an answer", 500)
    return answer if isinstance(answer, dict) else answer.model_dump(mode="json", exclude_none=True)


def _error(message: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": "engine_error", "code": code}}


def _dump(value: dict[str, Any]) -> str:
    import json

    return json.dumps(value, separators=(",", ":"))
