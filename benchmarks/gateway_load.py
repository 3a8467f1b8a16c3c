"""The load generator of the gateway benchmark: aiohttp in a process of its own, one JSON line on stdout.

Closed loop (``--rate 0``): every connection sends its next request when the last one ended; gives the saturation.
Open loop: requests start at times drawn before (Poisson, seeded), whatever became of earlier ones, and latency
counts from the time they were due, so that a stall costs all who waited (no coordinated omission).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp


@dataclass
class Seen:
    """What the requests of one run met; seconds."""

    latency: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    events: int = 0

    def error(self, name: str) -> None:
        """Count a failed request."""
        self.errors[name] = self.errors.get(name, 0) + 1


def body(number: int, options: argparse.Namespace, sizes: tuple[int, int] | None = None) -> dict[str, Any]:
    """A request; ``sizes`` are the tokens of prompt and answer in a replay."""
    prompt, answer = sizes or (20, options.tokens)
    return {
        "model": options.model,
        "messages": [{"role": "user", "content": f"{number}: " + "where is my parcel " * max(1, prompt // 4)}],
        "max_tokens": answer,
        "seed": options.delay_ms,
        "stream": options.stream,
        "user": f"user-{number % 1000}",
    }


async def one(session: aiohttp.ClientSession, request: dict[str, Any], due: float, url: str, seen: Seen) -> None:
    """Send and read to the end."""
    try:
        async with session.post(url, json=request) as response:
            first, tail = 0.0, b""
            async for data in response.content.iter_any():
                first = first or time.perf_counter()
                seen.events += data.count(b"\n\n")
                tail = (tail + data)[-64:]
            if response.status != 200:
                seen.error(str(response.status))
            elif request["stream"] and b"[DONE]" not in tail:
                seen.error("cut")
            else:
                seen.latency.append(time.perf_counter() - due)
                seen.first.append(first - due)
    except (aiohttp.ClientError, TimeoutError) as error:
        seen.error(type(error).__name__)


async def closed(session: aiohttp.ClientSession, options: argparse.Namespace, seen: Seen) -> None:
    """``requests`` requests over ``connections`` connections, back to back."""
    numbers = iter(range(options.requests))

    async def connection() -> None:
        for number in numbers:
            await one(session, body(number, options), time.perf_counter(), options.url, seen)

    await asyncio.gather(*(connection() for _ in range(options.connections)))


async def opened(
    session: aiohttp.ClientSession, options: argparse.Namespace, seen: Seen, plan: Sequence[tuple[float, Any]]
) -> None:
    """Requests at their times, however many are under way."""
    start = time.perf_counter() + 0.05
    running = []
    for number, (at, sizes) in enumerate(plan):
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        running.append(asyncio.create_task(one(session, body(number, options, sizes), start + at, options.url, seen)))
    await asyncio.gather(*running)


def arrivals(options: argparse.Namespace) -> list[tuple[float, Any]]:
    """(seconds, sizes) of every request of an open loop: Poisson, or a recorded trace at another speed."""
    if options.trace:
        rows = map(json.loads, Path(options.trace).read_text().splitlines())
        return [(row["at"], (row["prompt"], row["answer"])) for row in rows]
    rng, at, plan = random.Random(options.seed), 0.0, []
    for _ in range(options.requests):
        at += rng.expovariate(options.rate)
        plan.append((at, None))
    return plan


def percentile(values: list[float], share: float) -> float | None:
    """The value at a rank, in milliseconds."""
    if not values:
        return None
    ordered = sorted(values)
    return round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4)


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """One measurement."""
    seen = Seen()
    connector = aiohttp.TCPConnector(limit=options.connections if not (options.rate or options.trace) else 0)
    headers = {"x-flywheel-consent": "training,evaluation", "authorization": "Bearer sk-bench"}
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        started = time.perf_counter()
        if options.rate or options.trace:
            await opened(session, options, seen, arrivals(options))
        else:
            await closed(session, options, seen)
        seconds = time.perf_counter() - started
    found: dict[str, Any] = {"ok": len(seen.latency), "errors": seen.errors, "seconds": round(seconds, 3)}
    found["per_s"] = round(len(seen.latency) / seconds, 2)
    found["events"] = seen.events
    for name, values in (("latency", seen.latency), ("ttft", seen.first)):
        for share in (0.5, 0.95, 0.99):
            found[f"{name}_p{round(100 * share)}_ms"] = percentile(values, share)
    return found


def main() -> None:
    """Read the options, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", default="mock")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: closed loop")
    parser.add_argument("--trace", help="JSON lines with at, prompt, answer: an open loop at those times")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--delay-ms", type=int, default=0)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    try:
        import uvloop

        runner = uvloop.run
    except ImportError:
        runner = asyncio.run
    json.dump(runner(run(parser.parse_args())), sys.stdout)
    print()


if __name__ == "__main__":
    main()
