"""What does the gateway's own code cost a request? Processor time of its ASGI application, without Serve and sockets.

The application is called in this process over a mock engine, ten requests at a time, all variants in every round:
capture durable, async and off. What is left to Serve's proxy and handles is the difference to ``gateway.py``'s figures.

    python benchmarks/gateway_app.py [--rounds 20] [--requests 200] [--seed 0] [--short]

Result: ``gateway-app`` (with --short: printed only).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gateway_mock
import gateway_processes as processes
import results_file

from flywheel.capture.recorder import open_recorder
from flywheel.config import FlywheelConfig, load
from flywheel.gateway.api import build_app
from flywheel.gateway.auth import ApiKeys
from flywheel.gateway.service import Gateway
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.statistics.bootstrap import mean_interval
from flywheel.testing import LocalEngines, MemoryStore

VARIANTS = ("durable", "async", "off")
AT_ONCE = 10
TOKENS = 16


class Engine(gateway_mock.MockEngine):
    """The mock as ``LocalEngines`` holds it."""

    version = gateway_mock.MODEL


def build(variant: str, home: Path) -> tuple[Gateway, Any]:
    """A gateway and its application."""
    config = load(FlywheelConfig, None, {"home": str(home), "capture.mode": variant})
    store, engines = MemoryStore(), LocalEngines()
    engines.engines = {Engine.version: Engine()}  # type: ignore[dict-item]
    routing.publish(store, routing.bootstrap(config.flow, Variant(version=Engine.version, folder="/x"), actor="bench"))
    outbox = open_recorder(config)
    gateway = Gateway(config, store=store, engines=engines, outbox=outbox, feedback_key=b"bench", keys=ApiKeys([]))
    return gateway, build_app(gateway)


async def ask(app: Any, body: bytes) -> None:
    """One request and its whole answer, as an ASGI server would do it."""
    unread, ended = [{"type": "http.request", "body": body, "more_body": False}], asyncio.Event()

    async def receive() -> dict[str, Any]:
        if unread:
            return unread.pop()
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(f"refused: {message}")
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/v1/chat/completions", "raw_path": b"/v1/chat/completions", "root_path": "", "query_string": b"",
        "headers": [(b"content-length", str(len(body)).encode()), (b"x-flywheel-consent", b"training,evaluation")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)


async def measure(rounds: int, requests: int, folder: Path) -> list[dict[str, Any]]:
    """Microseconds a request, round by round; the first round of all warms up and is not kept."""
    built = {variant: build(variant, folder / variant) for variant in VARIANTS}
    for gateway, _ in built.values():
        await gateway.start()
    rows = []
    for round_ in range(-1, rounds):
        order = VARIANTS[round_ % 3 :] + VARIANTS[: round_ % 3]
        for stream in (False, True):
            question = [{"role": "user", "content": "where is my parcel " * 5}]
            body = json.dumps({"messages": question, "max_tokens": TOKENS, "seed": 0, "stream": stream}).encode()
            for variant in order:
                started = time.process_time()
                for _ in range(requests // AT_ONCE):
                    await asyncio.gather(*(ask(built[variant][1], body) for _ in range(AT_ONCE)))
                used = time.process_time() - started
                rows.append({
                    "round": round_, "variant": variant, "stream": stream, "requests": requests,
                    "cpu_us": round(1e6 * used / requests, 1), "load_average": processes.load_average(),
                })  # fmt: skip
    for gateway, _ in built.values():
        await gateway.stop()
    return [row for row in rows if row["round"] >= 0]


def summary(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Ratios of the same round."""
    found = []
    for stream in (False, True):
        costs = {
            name: [row["cpu_us"] for row in rows if (row["variant"], row["stream"]) == (name, stream)]
            for name in VARIANTS
        }
        how = "stream" if stream else "unary"
        for ours, theirs, limit in (("durable", "off", 1.25), ("async", "off", 1.25)):
            estimate = mean_interval([a / b for a, b in zip(costs[ours], costs[theirs], strict=True)], seed=seed)
            target: dict[str, Any] = {
                "name": f"{how}: {ours} / {theirs}, the application's own CPU", "target": limit,
                "measured": round(estimate.mean, 3), "peer": round(statistics.median(costs[theirs]), 1),
                "interval": [round(estimate.low, 3), round(estimate.high, 3)] if estimate.n > 1 else None,
                "met": estimate.mean <= limit,
            }  # fmt: skip
            if not target["met"]:
                middle, best = (
                    [round(pick(costs[name])) for name in (ours, theirs)] for pick in (statistics.median, min)
                )
                unsure = "; the interval holds the target: not told apart here" if estimate.low <= limit else ""
                target["why_not"] = (
                    f"{ours} and {theirs}, µs: median {middle[0]} and {middle[1]}, lowest {best[0]} and {best[1]}, "
                    f"without Serve's proxy and handles, which cost far more{unsure}"
                )
            found.append(target)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="four rounds, no result file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fw-bench-") as place:
        rows = asyncio.run(measure(4 if options.short else options.rounds, options.requests, Path(place)))
    for stream in (False, True):
        for name in VARIANTS:
            costs = [row["cpu_us"] for row in rows if (row["variant"], row["stream"]) == (name, stream)]
            print(f"{'stream' if stream else 'unary':7} {name:12} {statistics.median(costs):8.1f} µs a request")
    targets = summary(rows, options.seed)
    for target in targets:
        print(json.dumps(target, ensure_ascii=False))
    if not options.short:
        print(results_file.write("gateway-app", options.seed, rows, targets))


if __name__ == "__main__":
    main()
