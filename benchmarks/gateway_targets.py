"""The gateway benchmark's rows told as a table and as targets: ratios of the same round, bootstrapped over rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flywheel.statistics.bootstrap import mean_interval

Row = dict[str, Any]
UNARY, STREAM = "cpu-unary-0ms-c8", "cpu-stream-0ms-c8"


@dataclass(frozen=True)
class Promise:
    """``field`` of ``ours`` over that of ``theirs`` under one load is at most ``limit``."""

    name: str
    ours: str
    theirs: str
    load: str
    limit: float
    field: str = "cpu_us"
    upper: float | None = None
    why_not: str = ""
    with_engine: bool = False


PROMISES = (
    Promise(
        "durable / capture off, CPU, unary", "gateway-durable", "gateway-off", UNARY, 1.25,
        why_not="the group commit wakes a writer thread and syncs SQLite's log for every few requests",
    ),
    Promise(
        "durable / capture off, CPU, stream", "gateway-durable", "gateway-off", STREAM, 1.25,
        why_not="a stream syncs twice: its request before the first byte, its row before [DONE]",
    ),
    Promise(
        "gateway / Serve LLM's ingress, same engine, CPU, unary", "gateway-llm", "serve-llm", UNARY, 1.0,
        with_engine=True, why_not="both pass Serve's proxy and one handle; ours also records each answer",
    ),
    Promise(
        "gateway / Serve LLM's ingress, same engine, CPU, stream", "gateway-llm", "serve-llm", STREAM, 1.0,
        with_engine=True, why_not="Serve LLM collects 50 ms of a stream into one hop",
    ),
    Promise(
        "gateway / Serve LLM's ingress, same engine, time to first token", "gateway-llm", "serve-llm", STREAM, 1.0,
        field="ttft_p50_ms", why_not="the request is synced to disk before the first byte",
    ),
    Promise(
        "gateway / Serve LLM's ingress, vLLM, CPU, stream", "gateway-llm-vllm", "serve-llm-vllm", STREAM, 1.0,
        why_not="Serve LLM collects 50 ms of a stream into one hop",
    ),
    Promise(
        "gateway / Serve LLM's ingress, vLLM, time to first token", "gateway-llm-vllm", "serve-llm-vllm", STREAM, 1.0,
        field="ttft_p50_ms", why_not="the request is synced to disk before the first byte",
    ),
    Promise(
        "gateway / LiteLLM with a file callback, CPU, unary", "gateway-durable", "litellm", UNARY, 0.2,
        why_not="Serve's empty application alone costs most of that (serve-noop); see also gateway-durable@haproxy",
    ),
    Promise(
        "gateway behind HAProxy / LiteLLM with a file callback, CPU, unary", "gateway-durable@haproxy", "litellm",
        UNARY, 0.2,
        why_not="the application's own code is 0.24 ms of it (gateway-app); the rest is Serve's replica and its handle",
    ),
    Promise(
        "shadow 100 % / no shadow, open loop at 30 % of saturation, p99", "gateway-shadow", "gateway-durable",
        "open-unary-0ms-c8", 1.05, field="latency_p99_ms", upper=1.15,
        why_not="the copies are answered on the same cores as the users' requests",
    ),
)  # fmt: skip


def found(rows: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    """Every promise that the rows say something about, and the memory."""
    told = [target for promise in PROMISES if (target := _told(promise, rows, seed))]
    return told + _memory(rows, seed)


def _told(promise: Promise, rows: Sequence[Row], seed: int) -> dict[str, Any] | None:
    ours, theirs = (_values(rows, case, promise) for case in (promise.ours, promise.theirs))
    rounds = sorted(ours.keys() & theirs.keys())
    ratios = [ours[one] / theirs[one] for one in rounds if theirs[one]]
    if not ratios:
        return None
    estimate = mean_interval(ratios, seed=seed)
    middle = statistics.median(ratios) if promise.upper else estimate.mean
    interval = [round(estimate.low, 3), round(estimate.high, 3)] if len(ratios) > 1 else None
    met = middle <= promise.limit and (promise.upper is None or estimate.high <= promise.upper)
    target: dict[str, Any] = {
        "name": promise.name,
        "target": promise.limit,
        "measured": round(middle, 3),
        "interval": interval,
        "peer": promise.theirs,
        "met": met,
    }
    if not met:
        busy = any(row["shared_machine"] for row in rows)
        target["why_not"] = promise.why_not + ("; the machine was shared while it was measured" if busy else "")
    return target


def _values(rows: Sequence[Row], case: str, promise: Promise) -> dict[int, float]:
    extra = "engine_cpu_us" if promise.with_engine else None
    return {
        row["round"]: row[promise.field] + (row[extra] if extra else 0)
        for row in rows
        if row["case"] == case and row["load"] == promise.load and row[promise.field] is not None
    }


def _memory(rows: Sequence[Row], seed: int) -> list[dict[str, Any]]:
    grown = [
        row["rss_growth_mb_per_100k"]
        for row in rows
        if row["load"].startswith("memory") and row["case"] == "gateway-durable"
    ][1:]  # the first round fills caches
    if not grown:
        return []
    estimate = mean_interval(grown, seed=seed)
    met = estimate.mean <= 10
    target: dict[str, Any] = {
        "name": "growth of resident memory, MB per 100,000 requests", "target": 10, "measured": round(estimate.mean, 2),
        "interval": [round(estimate.low, 2), round(estimate.high, 2)] if len(grown) > 1 else None, "met": met,
    }  # fmt: skip
    if not met:
        target["why_not"] = "a few thousand requests cannot tell caches that fill from memory that is lost"
    return [target]


def table(rows: Sequence[Row]) -> str:
    """Medians over rounds, a line a case and load."""
    lines = [
        f"{'load':24} {'case':26} {'CPU µs':>9} {'engine':>9} {'req/s':>8} {'p50 ms':>9} {'p99 ms':>9} {'ttft':>9} err"
    ]
    for load, case in dict.fromkeys((row["load"], row["case"]) for row in rows):
        same = [row for row in rows if (row["load"], row["case"]) == (load, case)]
        names = ("cpu_us", "engine_cpu_us", "per_s", "latency_p50_ms", "latency_p99_ms", "ttft_p50_ms")
        values = " ".join(_cell([row[name] for row in same], 8 if name == "per_s" else 9) for name in names)
        lines.append(f"{load:24} {case:26} {values}  {sum(sum(row['errors'].values()) for row in same) or ''}")
    return "\n".join(lines)


def _cell(values: Sequence[float | None], width: int) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):{width},.1f}" if known else " " * width
