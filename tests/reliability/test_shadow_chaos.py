"""Promise 2 with candidates that are broken in every way: no user notices, memory stays, nothing is unaccounted for."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flywheel.testing_faults import CRASH_LOOP, EXPECTED, FAULTS

WORKER = Path(__file__).with_name("shadow_gateway.py")
LONG = bool(os.environ.get("FLYWHEEL_LONG"))
REQUESTS, ALONE = (20_000, 1_000) if LONG else (400, 400)
"""With all candidates at once, and with each alone."""
CONNECTIONS = 8
MORE_MEMORY = 50 * 2**20
ALL = [*FAULTS, CRASH_LOOP]


@contextmanager
def gateway(home, candidates):
    process = subprocess.Popen([sys.executable, WORKER, home, *candidates], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield url, psutil.Process(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        process.kill()
        process.wait()


async def drive(url, count, headers, process):
    """``count`` requests, every second one streamed; what failed, and the highest memory seen."""
    failed, peak, numbers = [], 0, iter(range(count))

    async def one(client, number):
        body = {"messages": [{"role": "user", "content": f"question {number}"}], "stream": number % 2 == 1}
        answer = await client.post(f"{url}/v1/chat/completions", json=body, headers=headers)
        text = answer.text
        good = answer.status_code == 200 and (text.endswith("[DONE]\n\n") if number % 2 else "QUESTION" in text)
        return None if good else (number, answer.status_code, text[-200:])

    async def connection(client):
        nonlocal peak
        for number in numbers:
            if problem := await one(client, number):
                failed.append(problem)
            if number % 50 == 0:
                peak = max(peak, process.memory_info().rss)

    async with httpx.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(connection(client) for _ in range(CONNECTIONS)))
    return failed, max(peak, process.memory_info().rss)


def shadow_counters(url):
    """candidate -> counter -> label value (or "") -> number."""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples:
            if sample.name.startswith("flywheel_shadow_") and not sample.name.endswith("_created"):
                name = sample.name.removeprefix("flywheel_shadow_").removesuffix("_total")
                label = sample.labels.get("reason") or sample.labels.get("outcome") or ""
                found[sample.labels["candidate"]][name][label] += int(sample.value)
    return found


def settled(url):
    """The counters once nothing waits and nothing is under way."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        counters = shadow_counters(url)
        totals = [{name: sum(labels.values()) for name, labels in each.items()} for each in counters.values()]
        if all(not each["waiting"] and each.get("sent", 0) == each.get("outcomes", 0) for each in totals):
            return counters
        time.sleep(0.2)
    raise AssertionError(f"requests of a shadow did not end: {counters}")


def pairs_in(home):
    kinds = defaultdict(list)
    for path in home.rglob("outbox/*.db"):
        with closing(sqlite3.connect(path)) as database:
            for (body,) in database.execute("select body from events where kind = 'shadow_pair'"):
                pair = json.loads(body)
                kinds[pair["candidate"]].append(pair)
    return kinds


@pytest.mark.slow
@pytest.mark.parametrize("candidates", [ALL, *([name] for name in (ALL if LONG else []))], ids="+".join)
def test_no_user_notices_a_broken_candidate(tmp_path, candidates):
    consent, requests = {"x-flywheel-consent": "evaluation"}, REQUESTS if len(candidates) > 1 else ALONE
    with gateway(tmp_path, candidates) as (url, process):
        failed, before = asyncio.run(drive(url, 200, {}, process))  # without consent: nothing is mirrored
        assert failed == []
        assert not shadow_counters(url)
        failed, peak = asyncio.run(drive(url, requests, consent, process))
        counters = settled(url)
        after = process.memory_info().rss
        pairs = pairs_in(tmp_path)
    assert failed == []
    grown = (max(peak, after) - before) / 2**20
    assert max(peak, after) - before < MORE_MEMORY, f"{grown:.0f} MB more"
    print(f"{len(candidates)} candidates, {requests} requests: memory {grown:+.1f} MB", file=sys.stderr)
    for name in candidates:
        sums = {counter: sum(labels.values()) for counter, labels in counters[name].items()}
        assert sums["sampled"] == requests
        assert sums["sampled"] == sums.get("sent", 0) + sums.get("dropped", 0), counters[name]
        assert sums["sent"] == sums["outcomes"] == len(pairs[name]) > 0, counters[name]
        kinds = {pair["error_kind"] for pair in pairs[name]}
        assert kinds <= EXPECTED[name], name
        assert None in kinds or None not in EXPECTED[name], name
        assert all((pair["candidate_answer"] is None) == (pair["error"] is not None) for pair in pairs[name])
