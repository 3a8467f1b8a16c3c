"""The gateway finds a riding candidate on its base's engine, and looks anew when that changes."""

import asyncio

import pytest

from flywheel.gateway.engine_client import ServeEngines
from flywheel.gateway.problems import ApiProblem
from flywheel.inference import hints
from flywheel.rollout import routing
from flywheel.rollout.riders import Rider, placed
from flywheel.rollout.routing import Shadow, Variant

WHO = {"actor": "t", "reason": "r"}


class Handle:
    """A Serve handle's shape: ``handle.method.remote(...)`` is awaited."""

    def __init__(self, version):
        self.version, self.calls = version, []

    def options(self, **_):
        return self

    def __getattr__(self, method):
        handle = self

        class Call:
            def remote(self, *args):
                handle.calls.append((method, *args))
                return handle._answer(method, *args)

        return Call()

    async def _answer(self, method, *args):
        return {"ping": self.version, "load_adapter": args[0] if args else None}.get(method, {"choices": []})


def test_a_rider_is_asked_for_at_its_bases_engine_and_let_go_when_it_leaves(monkeypatch):
    handles = {f"engine-{name}": Handle(name) for name in ("v1", "v2")}
    monkeypatch.setattr("ray.serve.get_app_handle", handles.__getitem__)

    async def use():
        engines = ServeEngines()
        assert engines.place({"v2": Rider("v1", "/a")}) == {"v2"}
        assert engines.place({"v2": Rider("v1", "/a")}) == set()
        assert await engines.ready("v2")
        await engines.chat("v2", {"model": "v2"}, 1)
        await engines.chat("v1", {"model": "v1"}, 1)
        assert engines.place({}) == {"v2"}
        assert await engines.ready("v2")
        await engines.chat("v2", {"model": "v2"}, 1)

    asyncio.run(use())
    base, own = handles["engine-v1"].calls, handles["engine-v2"].calls
    assert base[0] == ("load_adapter", "v2", "/a")
    assert hints.take(base[1][1]) == ({"model": "v2"}, hints.Hints(adapter="/a"))
    assert base[2] == ("chat", {"model": "v1"})
    assert base[3] == ("unload_adapter", "v2")
    assert own == [("ping",), ("chat", {"model": "v2"})]


def test_a_promotion_waits_for_the_engine_of_its_own(tmp_path):
    """It answered as a rider; that says nothing about the engine that it needs as the live model."""
    from flywheel.gateway.route import Router
    from flywheel.testing import MemoryStore

    class Engines(ServeEngines):
        up = frozenset({"v1"})

        async def ready(self, version):
            return self._engine_of(version) in self.up

    async def use():
        store, engines = MemoryStore(), Engines()
        router = Router(store, "triage", engines, cache=tmp_path / "c.json", poll_s=1)
        router.on_newest = lambda found: engines.place(placed(found, lora=True).riders)
        state = routing.bootstrap("triage", Variant(version="v1", folder="/1"), actor="t")
        routing.publish(store, state)
        state = routing.with_shadow(state, Shadow(version="v2", folder="/2", base="v1", adapter="/a"), **WHO)
        routing.publish(store, state)
        await router.step()
        assert router.is_ready("v2")
        routing.publish(store, routing.promoted(state, "v2", **WHO))
        await router.step()
        assert router.live().live.version == "v1"
        engines.up = frozenset({"v1", "v2"})
        await router.step()
        assert router.live().live.version == "v2"

    asyncio.run(use())


def test_what_the_engines_code_raises_is_its_failure_and_not_its_absence(monkeypatch):
    class Broken(Handle):
        async def _answer(self, method, *args):
            raise RuntimeError("a bug in the engine")  # as a call by value brings it

    monkeypatch.setattr("ray.serve.get_app_handle", {"engine-v1": Broken("v1")}.__getitem__)

    async def use():
        engines = ServeEngines()
        with pytest.raises(ApiProblem) as caught:
            await engines.chat("v1", {"model": "v1"}, 1)
        return caught.value, await engines.ready("v1")

    problem, ready = asyncio.run(use())
    assert (problem.status, problem.code, ready) == (502, "engine_error", False)
