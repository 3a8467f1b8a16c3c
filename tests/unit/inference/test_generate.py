import asyncio
from types import SimpleNamespace

from flywheel.inference import generate as module
from flywheel.inference.generate import Completion, completion
from flywheel.testing import FakeEngine


class Handle:
    """A Serve handle over a fake: ``handle.generate.remote(...)`` is awaitable."""

    def __init__(self, engine, fail_on=(), lost=None):
        self.calls, self._engine, self._fail_on, self._lost = [], engine, fail_on, lost
        self.generate = SimpleNamespace(remote=self._remote)

    def _remote(self, bodies, concurrency, timeout_s):
        self.calls.append(len(bodies))
        if bodies[0]["messages"][-1]["content"] == self._lost or len(self.calls) in self._fail_on:
            return self._fail()
        return self._engine.generate(bodies, concurrency, timeout_s)

    async def _fail(self):
        from ray.serve.exceptions import RayServeException

        raise RayServeException("replica died")


def bodies(texts):
    return [{"messages": [{"role": "user", "content": text}]} for text in texts]


def run(handle, texts, concurrency=4, progress=None):
    return asyncio.run(module._generate(handle, bodies(texts), concurrency, 5.0, progress))


def test_order_is_kept_over_many_batches_and_progress_counts_up():
    seen = []
    texts = [f"t{i}" for i in range(50)]
    handle = Handle(FakeEngine())
    results = run(handle, texts, progress=seen.append)
    assert [r.text for r in results] == [t.upper() for t in texts]
    assert len(handle.calls) > 1
    assert seen == sorted(seen)
    assert seen[-1] == 50


def test_one_failing_item_fails_alone():
    results = run(Handle(FakeEngine()), ["a", "FAIL", "b"])
    assert [r.error is None for r in results] == [True, False, True]
    assert "asked to fail" in results[1].error


def test_a_batch_whose_replica_died_is_asked_again():
    handle = Handle(FakeEngine(), fail_on={1})
    results = run(handle, [f"t{i}" for i in range(20)])
    assert [r.text for r in results] == [f"T{i}" for i in range(20)]


def test_a_lost_batch_is_an_error_of_its_items_only():
    results = run(Handle(FakeEngine(), lost="t0"), [f"t{i}" for i in range(20)])
    failed = [r for r in results if r.error]
    assert 0 < len(failed) < 20
    assert all("replica died" in r.error for r in failed)


def test_no_conversations():
    assert run(Handle(FakeEngine()), []) == []


def test_an_answer_without_content_is_empty_text():
    answer = {"choices": [{"message": {"content": None}, "finish_reason": "length"}], "latency_ms": 2.0}
    assert completion(answer) == Completion("", "length", None, None, 2.0)


def test_a_request_the_engine_will_never_answer_is_told_apart():
    too_long = completion({"error": {"message": "too long", "code": 400}})
    broken = completion({"error": {"message": "out of memory", "code": 500}})
    assert (too_long.error, broken.error) == ("refused: too long", "out of memory")
