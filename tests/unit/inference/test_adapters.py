"""LoRA adapters: which folders are refused, and which adapters an engine holds at a time."""

import asyncio
import json

import pytest

from flywheel.config import EngineConfig
from flywheel.errors import ModelError
from flywheel.inference import hints
from flywheel.inference.adapters import Adapters, check_adapter_folder

GOOD = {"peft_type": "LORA", "r": 8, "bias": "none"}


def adapter(folder, settings=GOOD, files=("adapter_model.safetensors",)):
    folder.mkdir(parents=True)
    if settings is not None:
        (folder / "adapter_config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    for name in files:
        (folder / name).touch()
    return folder


def test_a_safe_adapter_is_taken(tmp_path):
    check_adapter_folder(adapter(tmp_path / "a"), max_rank=8)


@pytest.mark.parametrize(
    ("settings", "files", "why"),
    [
        (GOOD, ("adapter_model.bin",), "pickle"),
        (GOOD, ("adapter_model.safetensors", "adapter_model.bin"), "pickle"),
        (GOOD, ("adapter_model.safetensors", "adapter_model.pt"), "pickle"),
        (GOOD, (), "no adapter_model.safetensors"),
        (None, ("adapter_model.safetensors",), "adapter_config.json"),
        ("{", ("adapter_model.safetensors",), "adapter_config.json"),
        ("[]", ("adapter_model.safetensors",), "not a JSON object"),
        ({**GOOD, "r": 16}, ("adapter_model.safetensors",), "max_lora_rank"),
        ({**GOOD, "r": None}, ("adapter_model.safetensors",), "rank"),
        ({**GOOD, "peft_type": "IA3"}, ("adapter_model.safetensors",), "kind 'IA3'"),
        ({**GOOD, "bias": "all"}, ("adapter_model.safetensors",), "biases"),
        ({**GOOD, "use_dora": True}, ("adapter_model.safetensors",), "DoRA"),
        ({**GOOD, "modules_to_save": ["lm_head"]}, ("adapter_model.safetensors",), "whole modules"),
    ],
)
def test_what_cannot_or_must_not_be_loaded_is_refused(tmp_path, settings, files, why):
    with pytest.raises(ModelError, match=why):
        check_adapter_folder(adapter(tmp_path / "a", settings, files), max_rank=8)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ModelError, match="not a folder"):
        check_adapter_folder(tmp_path / "none", max_rank=8)


class Engine:
    def __init__(self, **config):
        self.done = []
        self.slow = asyncio.Event()
        self.slow.set()
        config = EngineConfig.model_validate({"enable_lora": True, "max_loras": 2, **config})
        self.adapters = Adapters(config, load=self.load, unload=self.unload)

    async def load(self, version, folder):
        await self.slow.wait()
        self.done.append(f"+{version}")

    async def unload(self, version):
        self.done.append(f"-{version}")


def test_adapters_are_loaded_once_and_the_longest_unused_makes_room(tmp_path):
    folders = {name: str(adapter(tmp_path / name)) for name in "abc"}

    async def use():
        engine = Engine()
        for name in ("a", "b", "a", "c", "a"):
            await engine.adapters.use(name, folders[name])
        await engine.adapters.drop("a")
        await engine.adapters.drop("a")
        return engine.done

    assert asyncio.run(use()) == ["+a", "+b", "-b", "+c", "-a"]


def test_many_that_ask_at_once_load_it_once_and_one_that_gives_up_stops_nothing(tmp_path):
    folder = str(adapter(tmp_path / "a"))

    async def use():
        engine = Engine()
        engine.slow.clear()
        asking = [asyncio.create_task(engine.adapters.use("a", folder)) for _ in range(5)]
        await asyncio.sleep(0.05)
        asking[0].cancel()
        await asyncio.sleep(0)
        engine.slow.set()
        await asyncio.gather(*asking[1:])
        return engine.done

    assert asyncio.run(use()) == ["+a"]


def test_the_same_version_in_another_folder_is_loaded_anew(tmp_path):
    folders = [str(adapter(tmp_path / name)) for name in "ab"]

    async def use():
        engine = Engine()
        for folder in folders:
            await engine.adapters.use("v", folder)
        return engine.done

    assert asyncio.run(use()) == ["+v", "-v", "+v"]


def test_an_engine_without_lora_says_so(tmp_path):
    folder = str(adapter(tmp_path / "a"))

    async def use():
        return await Engine(enable_lora=False).adapters.failure("a", folder)

    assert "enable_lora" in asyncio.run(use())["error"]["message"]


def test_hints_travel_beside_the_request_and_never_reach_the_model():
    body = hints.give(hints.give({"model": "m"}, coalesce=True), adapter="/a")
    request, told = hints.take(body)
    assert request == {"model": "m"}
    assert (told.coalesce, told.adapter, told.max_bytes) == (True, "/a", None)
    assert hints.take({"model": "m"}) == ({"model": "m"}, hints.Hints())
