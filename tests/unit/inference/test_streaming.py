"""Batches of a stream, on a clock that moves only when everybody waits."""

import asyncio

import pytest

from flywheel.inference.streaming import batches


class Clock(asyncio.SelectorEventLoop):
    """An event loop that jumps to its next timer instead of sleeping."""

    now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


def run(work):
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(work)


async def source(times, closed=None, error=None):
    try:
        for number, at in enumerate(times):
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            yield f"{number};"
        if error:
            raise error
    finally:
        if closed is not None:
            closed.append(True)


async def arrivals(times, interval_s, **options):
    clock = asyncio.get_running_loop().time
    return [(round(clock(), 3), piece) async for piece in batches(source(times, **options), interval_s)]


def test_the_first_does_not_wait_and_the_close_ones_travel_together():
    found = run(arrivals([1.0, 1.005, 1.010, 1.015, 1.040, 1.1], 0.02))
    assert found == [(1.0, "0;"), (1.02, "1;2;3;"), (1.04, "4;"), (1.1, "5;")]


def test_the_end_does_not_wait():
    assert run(arrivals([1.0, 1.001, 1.002], 0.5)) == [(1.0, "0;"), (1.002, "1;2;")]


def test_without_an_interval_each_goes_alone():
    assert run(arrivals([0.1, 0.1, 0.1], 0)) == [(0.1, "0;"), (0.1, "1;"), (0.1, "2;")]


def test_an_empty_stream_is_empty():
    assert run(arrivals([], 0.02)) == []


@pytest.mark.parametrize("interval_s", [0, 0.02])
def test_an_error_comes_after_what_came_before_it(interval_s):
    async def read():
        seen, stream = "", batches(source([0.1, 0.101], error=RuntimeError("engine died")), interval_s)
        while seen != "0;1;":
            seen += await anext(stream)
        with pytest.raises(RuntimeError, match="engine died"):
            await anext(stream)

    run(read())


def test_who_leaves_ends_the_source():
    async def leave():
        closed = []
        stream = batches(source([0.1, 5.0], closed), 0.02)
        await anext(stream)
        await stream.aclose()
        return closed

    assert run(leave()) == [True]


def test_who_is_cancelled_while_waiting_ends_the_source():
    async def cancelled():
        closed = []
        task = asyncio.create_task(arrivals([0.1, 50.0], 0.02, closed=closed))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return closed, asyncio.get_running_loop().time()

    assert run(cancelled()) == ([True], 1)
