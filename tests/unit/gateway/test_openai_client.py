"""OpenAI's own Python client against the gateway: it parses every answer, and refusals are the right exceptions."""

import asyncio
import json

import openai
import pytest
from gateway_world import World

from flywheel.errors import CaptureError
from flywheel.gateway.problems import ApiProblem
from flywheel.testing import FakeEngine, LocalEngines

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
HELLO = [{"role": "user", "content": "hello"}]
CALLED = {"id": "call_7", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}


def run(world, use, **settings):
    async def inner():
        async with world.openai(**settings) as client:
            return await use(client)

    return asyncio.run(inner())


async def chunks_of(stream):
    return [chunk async for chunk in stream]


def test_an_answer_with_the_id_of_its_row_as_request_id(tmp_path):
    world = World(tmp_path)
    answer = run(world, lambda c: c.chat.completions.create(model="triage", messages=HELLO, metadata={"team": "a"}))
    assert answer.choices[0].message.content == "HELLO"
    (row,) = world.rows()
    assert answer._request_id == row["inference_id"] == answer.id.removeprefix("chatcmpl-")
    assert (row["tags"], row["api"], row["tool_calls"]) == ({"team": "a"}, "chat", [])
    assert row["messages"] == HELLO


def test_several_choices_stream_interleaved_and_are_all_recorded(tmp_path):
    world = World(tmp_path)

    async def use(client):
        options = {"include_usage": True}
        return await chunks_of(
            await client.chat.completions.create(
                model="", messages=HELLO, n=3, stream=True, stream_options=options, seed=4, logit_bias={"5": 1}
            )
        )

    chunks = run(world, use)
    texts = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == ["HELLO"] * 3
    assert [choice.index for chunk in chunks[:4] for choice in chunk.choices] == [0, 1, 2, 0]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage.completion_tokens == 3
    (row,) = world.rows()
    assert row["choices"] == ["HELLO"] * 3
    assert row["finish_reason"] == "stop"
    assert (row["params"]["seed"], row["params"]["logit_bias"], row["params"]["n"]) == (4, {"5": 1.0}, 3)


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_arrive_and_are_recorded_by_choice(tmp_path, stream):
    world = World(tmp_path)

    async def use(client):
        asked = {"model": "", "tools": [TOOL], "tool_choice": "required", "n": 2, "messages": HELLO}
        if not stream:
            answer = await client.chat.completions.create(**asked, parallel_tool_calls=False)
            return [choice.message.tool_calls[0] for choice in answer.choices], answer.choices[0].finish_reason
        with_sum = client.chat.completions.stream(**asked)
        async with with_sum as events:
            async for _ in events:
                pass
            answer = await events.get_final_completion()
        return [choice.message.tool_calls[0] for choice in answer.choices], answer.choices[0].finish_reason

    calls, reason = run(world, use)
    assert reason == "tool_calls"
    assert [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("call_0", "weather", {"text": "hello"}),
        ("call_1", "weather", {"text": "hello"}),
    ]
    (row,) = world.rows()
    assert row["choices"] == ["", ""]
    assert [[(c["id"], c["function"]["arguments"]) for c in calls] for calls in row["tool_calls"]] == [
        [("call_0", '{"text": "hello"}')],
        [("call_1", '{"text": "hello"}')],
    ]
    assert row["params"]["tools"] == [TOOL]
    assert row["finish_reason"] == "tool_calls"


def test_a_conversation_with_tools_goes_on_and_can_be_replayed_from_its_row(tmp_path):
    world = World(tmp_path)
    engine = world.engines.engines["v1"]

    async def use(client):
        first = await client.chat.completions.create(
            model="", messages=[{"role": "user", "content": "CALL it"}], tools=[TOOL]
        )
        called = first.choices[0].message
        said = [
            {"role": "user", "content": "CALL it", "name": "ann"},
            called,  # as the client's documentation has it: with whatever fields came along
            {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": [{"type": "text", "text": "23"}]},
        ]
        return await client.chat.completions.create(model="", messages=said, tools=[TOOL], tool_choice="none")

    answer = run(world, use)
    assert answer.choices[0].message.content == "23"
    row = world.rows()[1]
    assert row["messages"] == engine.bodies[1]["messages"]
    assert row["messages"][1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"text": "CALL it"}'}
    assert row["messages"][2] == {"role": "tool", "content": "23", "tool_call_id": "call_0"}
    assert row["messages"][0]["name"] == "ann"


def test_formats_stops_and_logprobs_pass_through(tmp_path):
    world = World(tmp_path)
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True}}

    async def use(client):
        create = client.chat.completions.create
        return (
            await create(model="", messages=HELLO, response_format=form),
            await create(model="", messages=HELLO, stop=["LO"], logprobs=True, top_logprobs=2),
            await chunks_of(await create(model="", messages=HELLO, logprobs=True, stream=True)),
        )

    formed, stopped, streamed = run(world, use)
    assert json.loads(formed.choices[0].message.content) == {"answer": "hello"}
    assert stopped.choices[0].message.content == "HEL"
    assert len(stopped.choices[0].logprobs.content[0].top_logprobs) == 2
    told = [chunk.choices[0].logprobs for chunk in streamed if chunk.choices]
    assert [logprobs.content[0].token for logprobs in told if logprobs] == [*"HELLO"]
    assert world.rows()[0]["params"]["response_format"] == form


@pytest.mark.parametrize("stream", [False, True])
def test_raw_prompts_are_completed_and_recorded_as_what_they_are(tmp_path, stream):
    world = World(tmp_path)

    async def use(client):
        asked = {"model": "triage", "prompt": "Once upon", "n": 2, "max_tokens": 5, "extra_body": {"user": "ann"}}
        if not stream:
            answer = await client.completions.create(**asked)
            return answer.id, [choice.text for choice in answer.choices]
        texts = ["", ""]
        async for chunk in await client.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        return chunk.id, texts

    identifier, texts = run(world, use)
    assert texts == ["ONCE UPON"] * 2
    (row,) = world.rows()
    assert identifier == f"cmpl-{row['inference_id']}"
    assert (row["api"], row["subject"], row["choices"]) == ("completion", "ann", ["ONCE UPON"] * 2)
    assert row["messages"] == [{"role": "user", "content": "Once upon"}]
    body = world.engines.engines["v1"].bodies[0]
    assert body["prompt"] == "Once upon"
    assert "messages" not in body


def test_the_shadow_of_a_completion_and_of_a_tool_call_is_asked_the_same(tmp_path):
    world = World(tmp_path)

    async def use(client):
        consent = {"x-flywheel-consent": "evaluation"}
        await client.completions.create(model="", prompt="Once", extra_headers=consent)
        await client.chat.completions.create(
            model="", messages=HELLO, tools=[TOOL], tool_choice="required", extra_headers=consent
        )
        for _ in range(300):
            if len(world.rows("shadow_pair")) == 2:
                return
            await asyncio.sleep(0.01)

    run(world, use)
    raw, tooled = world.rows("shadow_pair")
    assert (raw["live_answer"], raw["candidate_answer"]) == ("ONCE", "ONCE")
    assert tooled["candidate_tool_calls"][0]["function"]["name"] == "weather"


class Refusing(LocalEngines):
    """Engines that end every request with one problem."""

    def __init__(self, problem):
        super().__init__(FakeEngine("v1"), FakeEngine("v2"))
        self.problem = problem

    async def chat(self, version, body, timeout_s):
        raise self.problem


@pytest.mark.parametrize(
    ("problem", "error", "status"),
    [
        (ApiProblem(400, "m", "invalid_request_error"), openai.BadRequestError, 400),
        (ApiProblem(502, "m", "server_error"), openai.InternalServerError, 502),
        (ApiProblem(503, "m", "server_error", retry_after=3), openai.InternalServerError, 503),
        (ApiProblem(504, "m", "timeout_error"), openai.InternalServerError, 504),
    ],
)
def test_what_an_engine_does_wrong_is_the_right_exception(tmp_path, problem, error, status):
    world = World(tmp_path, engines=Refusing(problem))
    with pytest.raises(error) as caught:
        run(world, lambda c: c.chat.completions.create(model="", messages=HELLO))
    assert caught.value.status_code == status
    assert caught.value.request_id
    assert caught.value.response.headers.get("retry-after") == ("3" if status == 503 else None)


@pytest.mark.parametrize(
    ("asked", "error", "param", "code"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, None, "model_not_found"),
        ({"temperature": 3}, openai.BadRequestError, "temperature", "invalid_value"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens", "invalid_value"),
        ({"n": True}, openai.BadRequestError, "n", "invalid_value"),
        ({"extra_body": {"best": 1}}, openai.BadRequestError, "best", "unknown_field"),
        ({"messages": []}, openai.BadRequestError, "messages", "invalid_value"),
        ({"messages": [{"role": "user"}]}, openai.BadRequestError, "messages[0].content", "missing_field"),
        ({"messages": [{"role": "function", "content": ""}]}, openai.BadRequestError, "messages[0]", "invalid_value"),
        ({"tool_choice": "auto"}, openai.BadRequestError, "tool_choice", "invalid_combination"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, openai.BadRequestError,
         "tool_choice", "invalid_combination"),
        ({"top_logprobs": 2}, openai.BadRequestError, "top_logprobs", "invalid_combination"),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": ""}]}, openai.BadRequestError,
         "messages[0].tool_call_id", "invalid_combination"),
        ({"messages": [*HELLO, {"role": "assistant", "tool_calls": [{**CALLED, "function": {"name": "a b",
          "arguments": ""}}]}]}, openai.BadRequestError, "messages[1].tool_calls[0].function.name", "invalid_value"),
        ({"extra_headers": {"x-flywheel-consent": "trianing"}}, openai.BadRequestError, None, None),
        ({"messages": [{"role": "user", "content": "x" * 9_000}]}, openai.APIStatusError, None, "body_too_large"),
    ],
)  # fmt: skip
def test_refusals_name_the_field(tmp_path, asked, error, param, code):
    world = World(tmp_path, {"gateway.max_body_bytes": 8_000})
    with pytest.raises(error) as caught:
        run(world, lambda c: c.chat.completions.create(**{"model": "", "messages": HELLO, **asked}))
    assert (caught.value.param, caught.value.code) == (param, code)
    assert caught.value.type == "invalid_request_error"
    assert world.rows() == []


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], "", [], [[1]]])
def test_prompts_that_cannot_be_recorded_as_text_are_refused(tmp_path, prompt):
    with pytest.raises(openai.BadRequestError) as caught:
        run(World(tmp_path), lambda c: c.completions.create(model="", prompt=prompt))
    assert caught.value.param.startswith("prompt")


def test_keys_limits_and_recording_have_their_exceptions(tmp_path):
    world = World(tmp_path / "a", {"gateway.max_ongoing_requests": 1}, keys=("secret",),
                  engines=LocalEngines(FakeEngine("v1", delay_s=0.2)))  # fmt: skip

    async def use(client):
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").models.list()
        first = asyncio.create_task(client.chat.completions.create(model="", messages=HELLO))
        await asyncio.sleep(0.05)
        with pytest.raises(openai.RateLimitError) as full:
            await client.chat.completions.create(model="", messages=HELLO)
        assert full.value.response.headers["retry-after"] == "1"
        await first

        async def broken(*_):
            raise CaptureError("the disk is full; free some space")

        world.outbox.append = broken
        with pytest.raises(openai.InternalServerError) as lost:
            await client.chat.completions.create(model="", messages=HELLO)
        assert (lost.value.status_code, lost.value.code) == (503, "not_recorded")
        assert lost.value.response.headers["retry-after"]

    run(world, use, api_key="secret")


def test_the_client_waits_and_tries_again_as_it_was_told(tmp_path):
    class Busy(LocalEngines):
        tries = 0

        async def chat(self, version, body, timeout_s):
            Busy.tries += 1
            if Busy.tries == 1:
                raise ApiProblem(503, "m", "server_error", code="engine_error", retry_after=1)
            return await super().chat(version, body, timeout_s)

    world = World(tmp_path, engines=Busy(FakeEngine("v1")))
    answer = run(world, lambda c: c.chat.completions.create(model="", messages=HELLO), max_retries=1)
    assert answer.choices[0].message.content == "HELLO"
    assert Busy.tries == 2


def test_an_error_inside_a_stream_is_an_exception_and_never_done(tmp_path):
    class Breaking(FakeEngine):
        async def stream(self, body):
            yield 'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,' \
                '"delta":{"content":"He"}}]}\n\n'  # fmt: skip
            yield "data: {garbage\n\n"

    world = World(tmp_path, engines=LocalEngines(Breaking("v1")))

    async def use(client):
        stream = await client.chat.completions.create(model="", messages=HELLO, stream=True)
        first = await anext(stream)
        with pytest.raises(openai.APIError, match="cannot be read"):
            await anext(stream)
        return first.choices[0].delta.content

    assert run(world, use) == "He"
    (row,) = world.rows()
    assert (row["choices"], row["finish_reason"]) == (["He"], "error")


@pytest.mark.parametrize(
    "garbage",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"message": {"content": 3}}]},
        {"choices": [{"message": {"tool_calls": [{"id": 1}]}}]},
        {"choices": 3},
    ],
)
def test_an_engine_that_answers_garbage_is_502_and_a_row(tmp_path, garbage):
    class Garbled(FakeEngine):
        async def chat(self, body):
            return garbage

    world = World(tmp_path, engines=LocalEngines(Garbled("v1")))
    with pytest.raises(openai.InternalServerError) as caught:
        run(world, lambda c: c.chat.completions.create(model="", messages=HELLO))
    assert caught.value.status_code == 502
    assert [row["finish_reason"] for row in world.rows()] == ["error"]
