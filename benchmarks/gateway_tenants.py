"""Does a tenant that ignores its limit slow another one down?

A gateway under uvicorn (one process, real outbox) in front of an engine with four places of 80 ms, so 50 answers a
second. Two tenants: one asks 10 times a second and is timed, the other 60 times. Rounds are interleaved:

- alone: only the first tenant;
- limited: the second has a limit of 300 requests a minute, and goes on asking after 429;
- unlimited: the second has none (what the limit protects from).

Open loop: a request is sent at its time whether or not earlier ones were answered, and timed from there. Run:
``python benchmarks/gateway_tenants.py [--rounds 8] [--seconds 10]``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from results_file import write

PLACES, ANSWER_S = 4, 0.08
POLITE_PER_S, NOISY_PER_S, LIMIT_PER_MINUTE, BURST = 10, 60, 300, 5
CONDITIONS = ("alone", "limited", "unlimited")
TARGET = 2.0


def serve(home: Path, port: int) -> None:
    """The gateway's process."""
    import uvicorn

    from flywheel.capture.outbox import Outbox, outbox_folder
    from flywheel.config import FlywheelConfig, load
    from flywheel.gateway.api import build_app
    from flywheel.gateway.auth import ApiKeys
    from flywheel.gateway.keys import ApiKey, digest, new_id
    from flywheel.gateway.service import Gateway
    from flywheel.rollout import routing
    from flywheel.rollout.routing import Variant
    from flywheel.testing import FakeEngine, LocalEngines, MemoryStore

    class Busy(FakeEngine):
        places = asyncio.Semaphore(PLACES)

        async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
            async with self.places:
                return await super().chat(body)

    def key(secret: str, limit: float | None) -> ApiKey:
        return ApiKey(
            id=new_id(), name=secret, sha256=digest(secret), tenant=secret, roles=["product"], flows=["*"],
            requests_per_minute=limit, burst=BURST if limit else None,
        )  # fmt: skip

    config = load(FlywheelConfig, None, {"home": str(home), "gateway.max_ongoing_requests": 10_000})
    store = MemoryStore()
    routing.publish(store, routing.bootstrap(config.flow, Variant(version="v1", folder="/v1"), actor="benchmark"))
    gateway = Gateway(
        config,
        store=store,
        engines=LocalEngines(Busy("v1", delay_s=ANSWER_S)),
        outbox=Outbox.open(outbox_folder(config), group_commit_ms=config.gateway.group_commit_ms),
        feedback_key=b"benchmark",
        keys=ApiKeys([key("polite", None), key("limited", LIMIT_PER_MINUTE), key("unlimited", None)]),
    )
    uvicorn.run(
        build_app(gateway), host="127.0.0.1", port=port, log_level="warning", access_log=False, timeout_keep_alive=60
    )


async def load_of(client: httpx.AsyncClient, secret: str, per_s: float, seconds: float) -> tuple[list[float], Counter]:
    """Ask at even times; milliseconds of each answer with 200, and the statuses."""
    times, statuses = [], Counter()
    body = {"messages": [{"role": "user", "content": "where is my parcel"}]}
    headers = {"authorization": f"Bearer {secret}"}
    began = time.perf_counter()

    async def one(due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        answer = await client.post("/v1/chat/completions", json=body, headers=headers)
        statuses[answer.status_code] += 1
        if answer.status_code == 200:
            times.append((time.perf_counter() - due) * 1e3)

    await asyncio.gather(*(one(began + n / per_s) for n in range(int(per_s * seconds))))
    return times, statuses


async def measure(url: str, rounds: int, seconds: float, seed: int) -> list[dict[str, Any]]:
    """One row a round and condition, in an order drawn anew for each round."""
    rows = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200, keepalive_expiry=5)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False) as client:
        await load_of(client, "polite", POLITE_PER_S, 2)
        draw = random.Random(seed)
        for number in range(rounds):
            for condition in draw.sample(CONDITIONS, len(CONDITIONS)):
                loads = [load_of(client, "polite", POLITE_PER_S, seconds)]
                if condition != "alone":
                    loads.append(load_of(client, condition, NOISY_PER_S, seconds))
                (times, statuses), *noisy = await asyncio.gather(*loads)
                assert set(statuses) == {200}, statuses
                said = noisy[0][1] if noisy else Counter()
                p50, p99 = np.percentile(times, [50, 99])
                rows.append(
                    {
                        "round": number, "condition": condition, "n": len(times), "p50_ms": float(p50),
                        "p99_ms": float(p99), "other_200": said[200], "other_429": said[429],
                    }
                )  # fmt: skip
                print(rows[-1])
    return rows


def ratio(rows: list[dict[str, Any]], condition: str, seed: int) -> tuple[float, tuple[float, float]]:
    """Median over rounds of p99 in ``condition`` over p99 alone, with a 95 % interval from resampled rounds."""
    of = {(row["round"], row["condition"]): row["p99_ms"] for row in rows}
    ratios = np.array([of[n, condition] / of[n, "alone"] for n in sorted({row["round"] for row in rows})])
    drawn = np.random.default_rng(seed).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(np.median(ratios)), (float(low), float(high))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", nargs=2, metavar=("HOME", "PORT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(Path(given.serve[0]), int(given.serve[1]))
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        server = subprocess.Popen([sys.executable, __file__, "--serve", home, str(port)])
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url)
            rows = asyncio.run(measure(url, given.rounds, given.seconds, given.seed))
        finally:
            server.terminate()
            server.wait(30)
    measured, interval = ratio(rows, "limited", given.seed)
    bare, _ = ratio(rows, "unlimited", given.seed)
    target = {
        "name": "p99 of one tenant beside another past its limit, over p99 alone", "target": TARGET,
        "measured": measured, "interval": interval, "peer": f"without the limit: {bare:.1f}",
        "met": interval[1] < TARGET,
        "why_not": None if interval[1] < TARGET else "the rounds differ too much, or the limit does not protect",
    }  # fmt: skip
    print(target)
    print(write("gateway-tenants", given.seed, rows, [target]))


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise TimeoutError("the gateway was not ready in 60 s")


if __name__ == "__main__":
    main()
