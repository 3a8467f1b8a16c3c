"""Does a shadow, healthy or broken in every way, cost the users anything?

One gateway under uvicorn, durable, over engines in its own process (10 ms an answer, so the mirroring's whole cost is
in the process that answers users). Arms: a candidate that answers, one for each way to be broken that matters, and
all of them at once; each against the same gateway without consent, so that nothing is mirrored.
Open loop at 30 % of saturation: requests start when they are due, and their time counts from then. Rounds are paired
(same arrivals) and in random order.

    python benchmarks/gateway_shadow.py [--seed 0] [--short]

Results: ``gateway-shadow.json``. The same question over Ray Serve is one of the cases of ``gateway.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import aiohttp
import psutil
import results_file

from flywheel.statistics.bootstrap import mean_interval
from flywheel.testing_faults import CRASH_LOOP, FAULTS

ARMS = {
    "healthy": ["slow"],
    **{name: [name] for name in ("hung", "fails", CRASH_LOOP, "refuses", "garbage", "huge")},
    "all broken": [*FAULTS, CRASH_LOOP],
}
"""Candidates of each gateway. ``slow`` answers well after 100 ms, ten times as late as the live model."""
CONSENT = {"x-flywheel-consent": "evaluation"}
SHARE_OF_SATURATION, CONNECTIONS = 0.3, 32
RATIO, UPPER = 1.05, 1.15


@dataclass
class Server:
    """A gateway process."""

    url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Seconds of CPU so far."""
        used = self.process.cpu_times()
        return used.user + used.system


def serve(home: str, candidates: list[str]) -> None:
    """Body of a gateway process; prints its port."""
    import uvicorn

    from flywheel.capture.outbox import Outbox, outbox_folder
    from flywheel.config import FlywheelConfig, load
    from flywheel.gateway.api import build_app
    from flywheel.gateway.auth import ApiKeys
    from flywheel.gateway.service import Gateway
    from flywheel.rollout import routing
    from flywheel.testing import MemoryStore
    from flywheel.testing_faults import FaultyEngines

    config = load(FlywheelConfig, None, {"home": home, "gateway.shadow_timeout_s": 2, "gateway.shadow_concurrency": 10})
    store, who = MemoryStore(), {"actor": "benchmark", "reason": "benchmark"}
    state = routing.bootstrap("triage", routing.Variant(version="live", folder="/live"), actor="benchmark")
    routing.publish(store, state)
    for name in candidates:
        state = routing.with_shadow(state, routing.Shadow(version=name, folder="/x"), **who)
        routing.publish(store, state)
    outbox = Outbox.open(outbox_folder(config), group_commit_ms=2)
    gateway = Gateway(config, store=store, engines=FaultyEngines(), outbox=outbox, feedback_key=b"k", keys=ApiKeys([]))
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(build_app(gateway), log_level="error")).run(sockets=[listener])


@contextmanager
def gateway(candidates: list[str]) -> Iterator[Server]:
    """A running gateway."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, __file__, "--serve", home, *candidates]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield Server(f"http://127.0.0.1:{port}/v1/chat/completions", psutil.Process(process.pid))
        finally:
            process.kill()
            process.wait()


async def ask(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> None:
    """One request; an answer that is not a 200 ends the benchmark."""
    body = {"messages": [{"role": "user", "content": "where is my parcel? " * 4}]}
    async with session.post(url, json=body, headers=headers) as answer:
        await answer.read()
        answer.raise_for_status()


async def saturation(server: Server, seconds: float) -> float:
    """Requests a second with all connections busy and nothing mirrored."""
    done, end = 0, time.perf_counter() + seconds

    async def connection(session: aiohttp.ClientSession) -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ask(session, server.url, {})
            done += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(connection(session) for _ in range(CONNECTIONS)))
    return done / seconds


async def open_loop(server: Server, rate: float, count: int, headers: dict[str, str], seed: int) -> dict[str, float]:
    """Latencies in milliseconds from when requests were due, and CPU microseconds of the gateway a request."""
    chance, due, latencies = random.Random(seed), time.perf_counter() + 0.1, list[float]()
    cpu = server.cpu_s()

    async def one(session: aiohttp.ClientSession, start: float) -> None:
        await asyncio.sleep(max(0.0, start - time.perf_counter()))
        await ask(session, server.url, headers)
        latencies.append((time.perf_counter() - start) * 1e3)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, asyncio.TaskGroup() as group:
        for _ in range(count):
            due += chance.expovariate(rate)
            group.create_task(one(session, due))
    latencies.sort()
    return {
        "p50_ms": round(statistics.median(latencies), 2),
        "p99_ms": round(latencies[math.ceil(0.99 * count) - 1], 2),
        "cpu_us": round((server.cpu_s() - cpu) / count * 1e6),
    }


async def measure(arm: str, server: Server, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a round: without and with the shadow, and what became larger."""
    count, rounds, seconds = (200, 2, 1.0) if options.short else (1000, 11, 5.0)
    await saturation(server, 1.0)  # warm
    rate = SHARE_OF_SATURATION * await saturation(server, seconds)
    rows: list[dict[str, Any]] = []
    order = random.Random(options.seed)
    for number in range(rounds):
        seen, before = {}, server.process.memory_info().rss
        for mirrored in order.sample([False, True], 2):
            seen[mirrored] = await open_loop(server, rate, count, CONSENT if mirrored else {}, options.seed + number)
            await asyncio.sleep(2.5 if mirrored else 0)  # what is under way for the shadow is not the next arm's
        rows.append(
            {
                "arm": arm, "round": number, "rate_per_s": round(rate, 1), "requests": count,
                **{f"plain_{name}": value for name, value in seen[False].items()},
                **{f"shadow_{name}": value for name, value in seen[True].items()},
                "p99_ratio": round(seen[True]["p99_ms"] / seen[False]["p99_ms"], 3),
                "cpu_ratio": round(seen[True]["cpu_us"] / seen[False]["cpu_us"], 3),
                "memory_mb": round((server.process.memory_info().rss - before) / 2**20, 1),
            }
        )  # fmt: skip
        print({name: rows[-1][name] for name in ("arm", "round", "plain_p99_ms", "shadow_p99_ms", "cpu_ratio")})
    return rows


def targets(arm: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The median of the rounds' ratios, and the upper end of the interval of their logarithms' mean."""
    ratios = [row["p99_ratio"] for row in rows]
    found = mean_interval([math.log(ratio) for ratio in ratios], resamples=2000, seed=0)
    middle, low, high = statistics.median(ratios), math.exp(found.low), math.exp(found.high)
    met = middle <= RATIO and high <= UPPER
    busy = f"{statistics.median(row['cpu_ratio'] for row in rows):.2f} times the CPU a request in one process with "
    return [
        {
            "name": f"p99 with / without the shadow, candidate {arm}, 30 % of saturation, median of paired rounds",
            "target": f"<= {RATIO}, upper bound <= {UPPER}",
            "measured": round(middle, 3),
            "interval": (round(low, 3), round(high, 3)),
            "met": met,
            "why_not": None if met else busy + "the engines and the load generator beside it on the same cores",
        }
    ]


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="fewer and shorter rounds; no result file")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], options.serve[1:])
        return
    rows: list[dict[str, Any]] = []
    promises: list[dict[str, Any]] = []
    for arm, candidates in ARMS.items():
        with gateway(candidates) as server:
            found = asyncio.run(measure(arm, server, options))
        rows += found
        promises += targets(arm, found)
    for promise in promises:
        print(promise["name"], promise["measured"], promise["interval"], "met" if promise["met"] else "NOT MET")
    if not options.short:
        results_file.write("gateway-shadow", options.seed, rows, promises)


if __name__ == "__main__":
    main()
