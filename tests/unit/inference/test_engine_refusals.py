"""A request that the engine does not take is the client's mistake: told as 400, without quoting what was sent."""

import asyncio
import json

import pytest
from pydantic import BaseModel

from flywheel.inference.server import EngineServer, refusal


class Wanted(BaseModel):
    n: int


class Refusing(EngineServer):
    def __init__(self, error):
        self.error, self._policy, self._stream_interval_s = error, "priority", 0

    async def _ask(self, body):
        async def answers():
            raise self.error
            yield {}

        return answers()


def wrong():
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (pydantic's own)
        Wanted.model_validate({"n": "a secret"})
    return caught.value


@pytest.mark.parametrize("error", [wrong(), ValueError("the prompt is too long"), NotImplementedError("no tools")])
def test_whole_and_streamed_alike(error):
    engine = Refusing(error)

    async def use():
        return await engine.chat({}), [block async for block in engine.stream({})]

    whole, blocks = asyncio.run(use())
    assert whole["error"]["code"] == 400
    assert [json.loads(block.removeprefix("data: ")) for block in blocks] == [whole]
    assert "secret" not in json.dumps(whole)


def test_the_place_is_named():
    assert refusal(wrong())["error"]["message"].startswith("n: ")


def test_a_failure_of_the_engine_is_none():
    engine = Refusing(RuntimeError("the engine died"))
    with pytest.raises(RuntimeError):
        asyncio.run(engine.chat({}))
