"""LoRA adapters on a running engine: what a folder must hold, and which ones are loaded now."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from flywheel.config import EngineConfig
from flywheel.errors import ModelError
from flywheel.inference.models import PICKLES

WEIGHTS: Final = "adapter_model.safetensors"
CONFIG: Final = "adapter_config.json"


def check_adapter_folder(path: Path, *, max_rank: int) -> None:
    """Refuse an adapter that an engine could not, or must not, load.

    Raises:
        ModelError: names what is wrong and what to do.
    """
    if not path.is_dir():
        raise ModelError(f"{path} is not a folder; give the folder that peft's save_pretrained() wrote")
    if pickle := next((found for pattern in PICKLES for found in path.glob(pattern)), None):
        raise ModelError(
            f"{path} holds {pickle.name}, a pickle, which can run code when loaded; save the adapter with "
            "save_pretrained(safe_serialization=True) into a new folder"
        )
    if not (path / WEIGHTS).is_file():
        raise ModelError(f"{path} has no {WEIGHTS}; save the adapter with save_pretrained()")
    settings = _settings(path)
    rank = settings.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise ModelError(f"{path / CONFIG} has no rank 'r'; save the adapter again")
    if rank > max_rank:
        raise ModelError(f"{path} has rank {rank}; raise engine.max_lora_rank, which is {max_rank}")
    if problem := _unsupported(settings):
        raise ModelError(f"{path} {problem}, which no engine serves as an adapter; merge it into the weights instead")


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads((path / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} has no readable {CONFIG}; save the adapter with save_pretrained()") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{path / CONFIG} is not a JSON object; save the adapter again")
    return settings


def _unsupported(settings: dict[str, Any]) -> str | None:
    if settings.get("peft_type") != "LORA":
        return f"is of the kind {settings.get('peft_type')!r}"
    if settings.get("bias", "none") != "none":
        return "trains biases"
    if settings.get("use_dora"):
        return "is a DoRA"
    return "trains whole modules" if settings.get("modules_to_save") else None


class Adapters:
    """The adapters of one engine replica, loaded when first asked for; past ``max_loras`` the longest unused goes.

    So a replica that was replaced, or one of several that never heard of an adapter, needs nobody to tell it.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        load: Callable[[str, str], Awaitable[None]],
        unload: Callable[[str], Awaitable[None]],
    ) -> None:
        self._config, self._load, self._unload = config, load, unload
        self._loaded: OrderedDict[str, str] = OrderedDict()
        self._turn = asyncio.Lock()

    async def use(self, version: str, folder: str) -> None:
        """Make sure that ``version`` answers with the adapter in ``folder``.

        Raises:
            ModelError: it cannot.
        """
        if self._loaded.get(version) != folder:
            # a caller that gives up must not stop the engine halfway through loading
            await asyncio.shield(self._exchange(version, folder))
        if version in self._loaded:  # another adapter may have taken its place meanwhile
            self._loaded.move_to_end(version)

    async def failure(self, version: str, folder: str) -> dict[str, Any] | None:
        """``use``, with its error as an answer."""
        try:
            await self.use(version, folder)
        except ModelError as error:
            return {"error": {"message": str(error), "type": "engine_error", "code": 500}}
        return None

    async def drop(self, version: str) -> None:
        """Unload an adapter. Not there: nothing happens."""
        async with self._turn:
            if self._loaded.pop(version, None) is not None:
                await self._unload(version)

    async def _exchange(self, version: str, folder: str) -> None:
        async with self._turn:
            if self._loaded.get(version) == folder:
                return
            if not self._config.enable_lora:
                raise ModelError(f"'{version}' is an adapter and this engine takes none; set engine.enable_lora")
            await asyncio.to_thread(check_adapter_folder, Path(folder), max_rank=self._config.max_lora_rank)
            if self._loaded.pop(version, None) is not None:
                await self._unload(version)
            while len(self._loaded) >= self._config.max_loras:
                await self._unload(self._loaded.popitem(last=False)[0])
            await self._load(version, folder)
            self._loaded[version] = folder
