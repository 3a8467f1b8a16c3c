"""What does one Serve hop cost, and one event of a stream that passes it? Processor time of both ends.

A caller replica asks an engine replica as the gateway does; each end says how much processor time its process took.
Compared: handles by reference (Ray's object store) and by value (gRPC), replicas with user code in a thread of its
own (Serve's default) and without, and streams whose events come one a hop or collected.

    python benchmarks/gateway_hop.py [--rounds 5] [--calls 200] [--seed 0] [--short]

Result: ``gateway-hop`` (with --short: printed only).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gateway_mock
import gateway_processes as processes
import results_file

from flywheel.statistics.bootstrap import mean_interval
from flywheel.telemetry import apply_environment

EVENTS = 32
LOGGING = {"log_level": "WARNING", "enable_access_log": False}
ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0", "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0"}
BODY = {"messages": [{"role": "user", "content": "where is my parcel"}], "max_tokens": EVENTS - 2, "stream": True}


class Engine(gateway_mock.MockEngine):
    """The mock, which can also send its events as one piece, and says what it used."""

    async def collected(self, body: dict[str, Any]) -> AsyncIterator[str]:
        """The stream in one piece."""
        yield "".join(gateway_mock.chunks(body))

    async def used(self) -> float:
        """Seconds of processor of this process so far."""
        return time.process_time()


class Caller:
    """Asks an engine, several requests at a time."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    async def calls(self, method: str, by_value: bool, count: int) -> tuple[float, float]:
        """Seconds of processor that ``count`` calls took here and at the engine."""
        handle = self._engine.options(stream=method != "chat", _by_reference=not by_value)
        gate = asyncio.Semaphore(8)

        async def one() -> None:
            async with gate:
                response = getattr(handle, method).remote(BODY)
                if method == "chat":
                    await response
                    return
                async for _ in response:
                    pass

        await one()
        there = await self._engine.used.remote()
        here = time.process_time()
        await asyncio.gather(*(one() for _ in range(count)))
        return time.process_time() - here, await self._engine.used.remote() - there


def deploy() -> dict[str, Any]:
    """Callers by how their replicas run."""
    from ray import serve

    found = {}
    for name, variables in (("thread", {}), ("loop", ONE_LOOP)):
        options = {"num_cpus": 0.1, "runtime_env": {"env_vars": variables}} if variables else {"num_cpus": 0.1}
        common: dict[str, Any] = {"max_ongoing_requests": 1000, "ray_actor_options": options}
        engine: Any = serve.deployment(Engine, **common)
        caller: Any = serve.deployment(Caller, **common)
        app = caller.bind(engine.bind())
        found[name] = serve.run(app, name=f"hop-{name}", route_prefix=None, logging_config=LOGGING)
    return found


def measure(callers: dict[str, Any], rounds: int, calls: int) -> list[dict[str, Any]]:
    """Microseconds a call, round by round."""
    rows = []
    for round_ in range(rounds):
        for runs, caller in callers.items():
            for by_value in (False, True):
                for method in ("chat", "stream", "collected"):
                    count = calls if method != "stream" else max(10, calls // 8)
                    here, there = caller.calls.remote(method, by_value, count).result(timeout_s=600)
                    rows.append({
                        "round": round_, "user_code": runs, "by_value": by_value, "method": method, "calls": count,
                        "caller_us": round(1e6 * here / count, 1), "engine_us": round(1e6 * there / count, 1),
                        "load_average": processes.load_average(),
                    })  # fmt: skip
                    print(rows[-1], flush=True)
    return rows


def summary(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Each way beside Serve's default: ratios of the same round."""

    def total(runs: str, by_value: bool, method: str) -> list[float]:
        return [row["caller_us"] + row["engine_us"] for row in rows
                if (row["user_code"], row["by_value"], row["method"]) == (runs, by_value, method)]  # fmt: skip

    found = []
    for method in ("chat", "stream", "collected"):
        base = total("thread", False, method)
        for runs, by_value in (("thread", True), ("loop", False), ("loop", True)):
            ratios = [one / other for one, other in zip(total(runs, by_value, method), base, strict=True)]
            estimate = mean_interval(ratios, seed=seed)
            several = len(ratios) > 1
            found.append({
                "name": f"{method}: code in {runs}, by {'value' if by_value else 'reference'} / Serve's default, CPU",
                "target": 1.0, "measured": round(estimate.mean, 3), "met": estimate.mean <= 1.0,
                "interval": [round(estimate.low, 3), round(estimate.high, 3)] if several else None,
                "peer": round(statistics.median(base), 1), "why_not": "measured; not used",
            })  # fmt: skip
    return found


def main() -> None:
    """Start Ray, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="one round, no result file")
    options = parser.parse_args()
    apply_environment()
    os.environ.update(processes.python_path())
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    from ray import serve

    ray.init(address="local", num_cpus=4, object_store_memory=200 * 2**20, include_dashboard=False, log_to_driver=False,
             logging_level=logging.ERROR)  # fmt: skip
    try:
        serve.start(proxy_location="Disabled")
        rows = measure(deploy(), 1 if options.short else options.rounds, options.calls // (4 if options.short else 1))
    finally:
        serve.shutdown()
        ray.shutdown()
    targets = summary(rows, options.seed)
    for target in targets:
        print(target["name"], target["measured"], target["interval"])
    if not options.short:
        print(results_file.write("gateway-hop", options.seed, rows, targets))


if __name__ == "__main__":
    main()
