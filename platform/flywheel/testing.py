"""Fakes and helpers for tests: a tiny model in seconds, an engine without vLLM. Nothing in the package imports this."""

from __future__ import annotations

import asyncio
import json
import re
import string
from collections.abc import AsyncIterator, Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from flywheel.testing_answers import chunks, question, whole_answer

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]


def make_tiny_model(
    folder: Path, *, texts: Sequence[str] = (), hidden: int = 64, layers: int = 2, vocab: int = 300, seed: int = 0
) -> Path:
    """A random Llama with a byte-level BPE and a chat template, about 0.3 M parameters, in safetensors.

    Args:
        folder: where to save it.
        texts: corpus of the tokenizer; printable characters when empty.
        hidden: width.
        layers: depth.
        vocab: entries of the tokenizer, at least 256 bytes and the special tokens.
        seed: of the random weights.

    Returns:
        ``folder``.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts or [string.printable], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=hidden // 2,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class FakeEngine:
    """What ``inference.server.EngineServer`` answers, without a model: the last message, upper case.

    What it makes of tools, formats and the like is in ``testing_answers``.
    A message ``FAIL`` is answered with an error, ``SLOW`` after ``slow_s`` seconds.
    """

    def __init__(self, version: str = "fake", *, slow_s: float = 30.0, delay_s: float = 0.0) -> None:
        self.version, self.slow_s, self.delay_s = version, slow_s, delay_s
        self.bodies: list[dict[str, Any]] = []

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """One whole answer or an error dict."""
        self.bodies.append(body)
        asked = question(body)
        if asked == "FAIL":
            return {"error": {"message": "asked to fail", "type": "engine_error", "code": 400}}
        await asyncio.sleep(self.slow_s if asked == "SLOW" else self.delay_s)
        return whole_answer(body, self.version)

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """The same answer, one event a character."""
        whole = await self.chat(body)
        if "error" in whole:
            yield _event(whole)
            return
        for place, chunk in enumerate(chunks(whole)):
            if place and chunk["choices"]:
                await asyncio.sleep(self.delay_s)
            yield _event(chunk)
        yield "data: [DONE]\n\n"

    async def generate(self, bodies: list[dict[str, Any]], concurrency: int, timeout_s: float) -> list[dict[str, Any]]:
        """Many answers in one call, in order."""
        del concurrency, timeout_s
        return [{**await self.chat(body), "latency_ms": 1.0} for body in bodies]

    async def ping(self) -> str:
        """The version."""
        return self.version


def deploy_fake_engine(version: str, *, delay_s: float = 0.0) -> None:
    """Run a ``FakeEngine`` as the Serve application that ``version``'s engine would be."""
    from ray import serve

    from flywheel.inference.engines import app_name

    deployment: Any = serve.deployment(
        FakeEngine, name="engine", max_ongoing_requests=256, ray_actor_options={"num_cpus": 0}
    )
    serve.run(deployment.bind(version, delay_s=delay_s), name=app_name(version), route_prefix=None)


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


class LocalEngines:
    """The gateway's ``EngineClient`` over fakes in this process."""

    def __init__(self, *engines: FakeEngine) -> None:
        self.engines = {engine.version: engine for engine in engines}

    async def chat(self, version: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Like ``ServeEngines``: errors and absence are ``ApiProblem``."""
        from flywheel.gateway.problems import ApiProblem, from_engine

        try:
            answer = await asyncio.wait_for(self._engine(version).chat(body), timeout_s)
        except TimeoutError as error:
            raise ApiProblem(504, "late", "timeout_error", code="engine_timeout") from error
        if "error" in answer:
            raise from_engine(answer)
        return answer

    async def stream(self, version: str, body: dict[str, Any], timeout_s: float) -> AsyncIterator[str]:
        """Events of the fake."""
        del timeout_s
        async for block in self._engine(version).stream(body):
            yield block

    async def ready(self, version: str) -> bool:
        """Whether there is such a fake."""
        return version in self.engines

    def _engine(self, version: str) -> FakeEngine:
        from flywheel.gateway.problems import unavailable

        if version not in self.engines:
            raise unavailable("gone", "engine_unavailable")
        return self.engines[version]


class MemoryStore:
    """An object store in a dict, with the part of ``lake.ObjectStore`` that routing uses."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.broken = False

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """True when written."""
        return self.objects.setdefault(key, data) is data

    def get_or_none(self, key: str) -> bytes | None:
        """The object or None."""
        return self.objects.get(key)

    def exists(self, key: str) -> bool:
        """Whether it is there."""
        self._check()
        return key in self.objects

    def list(self, prefix: str) -> list[str]:
        """Sorted keys."""
        self._check()
        return sorted(key for key in self.objects if key.startswith(prefix))

    def _check(self) -> None:
        from flywheel.errors import LakeError

        if self.broken:
            raise LakeError("the store is away")


class FakeOpenAI:
    """An OpenAI-compatible endpoint on loopback, for a ``with``: ``reply`` makes the text of every completion.

    ``reply`` may also return (status, body) to answer with an error. ``calls`` holds (headers, body) of each request.
    """

    def __init__(self, reply: Callable[[dict[str, Any]], str | tuple[int, str]], *, model: str = "fake-1") -> None:
        self.reply, self.model = reply, model
        self.calls: list[tuple[dict[str, str], dict[str, Any]]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                fake.calls.append(({key.lower(): value for key, value in self.headers.items()}, body))
                status, text = fake.answer(body)
                self.send_response(status)
                self.send_header("content-length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (as the base class has it)
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def answer(self, body: dict[str, Any]) -> tuple[int, str]:
        """Status and text of one response."""
        said = self.reply(body)
        if not isinstance(said, str):
            return said
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return 200, json.dumps({"object": "chat.completion", "model": self.model, "choices": [choice]})

    def __enter__(self) -> FakeOpenAI:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def quoted_answers(body: dict[str, Any]) -> list[str]:
    """The answers in a question of ``judging.prompts``: two to compare, or one to mark."""
    prompt = body["messages"][-1]["content"]
    return [text for _, text in re.findall(r"\[answer(?: [AB])? (\w+)\]\n(.*?)\n\[end \1\]", prompt, re.DOTALL)]


def gullible(body: dict[str, Any]) -> str:
    """A judge that prefers whatever says "choose me", then the longer, then the first; marks are high for the same."""
    answers = quoted_answers(body)
    begged = ["choose me" in text.lower() for text in answers]
    if len(answers) == 1:
        return json.dumps({"score": 10 if begged[0] or len(answers[0]) > 60 else 3})
    first = (begged[0], len(answers[0])) >= (begged[1], len(answers[1]))
    return json.dumps({"better": "A" if first else "B"})
