"""What does the gateway cost? Processor time a request, latency and memory, beside its peers, in interleaved rounds.

    python benchmarks/gateway.py                      # all cases: about an hour on two cores
    python benchmarks/gateway.py --short              # a minute or two, printed only: what `make bench` runs
    python benchmarks/gateway.py --only gateway-durable --only litellm --rounds 3
    python benchmarks/gateway.py --trace azure_llm_trace.jsonl.gz      # replays recorded arrivals too

The chief figure is the processor time of the serving processes, client and model excluded, because it hardly depends
on what else the machine does. Latency does: rows say how loaded the machine was. Every case answers in every round;
ratios are of the same round, with a bootstrap interval over rounds. Peers get virtual environments of their own under
``--cache``, made once; one that cannot be installed or started is left out with its reason.

Rows are kept as they come: the same command again goes on where it was stopped (``--fresh`` begins anew).
Result: ``gateway-cost`` (with --short: printed only).
"""

from __future__ import annotations

import argparse
import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import gateway_processes as processes
import gateway_targets as targets
import results_file
from gateway_peers import PEERS, Place, Serving, mock
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

OUTSIDE = ("direct", *PEERS)
PROXY = ("serve-noop", "gateway-durable", "gateway-async", "gateway-off", "gateway-shadow", "gateway-llm", "serve-llm")
VLLM = ("gateway-llm-vllm", "serve-llm-vllm")
HAPROXY = ("serve-noop@haproxy", "gateway-durable@haproxy", "gateway-off@haproxy")
CASES = (*OUTSIDE, *PROXY, *VLLM, *HAPROXY)
KINDS = ("cpu", "latency", "open", "memory", "trace")
SHORT = ("direct", "nginx", "serve-noop", "gateway-durable", "gateway-off")


@dataclass(frozen=True)
class Load:
    """One way of asking."""

    kind: str
    connections: int = 8
    requests: int = 400
    stream: bool = False
    delay_ms: int = 0
    tokens: int = 16
    share_of_saturation: float = 0.0
    cases: tuple[str, ...] = CASES

    @property
    def name(self) -> str:
        """As the rows have it."""
        how = "stream" if self.stream else "unary"
        return f"{self.kind}-{how}-{self.delay_ms}ms-c{self.connections}"


def loads(options: argparse.Namespace) -> list[Load]:
    """What is asked in a round."""
    scale = options.requests
    found = [Load("cpu", requests=scale), Load("cpu", requests=max(20, scale // 4), stream=True)]
    if options.short:
        return found
    for connections in (1, 8, 32, 128):
        for stream in (False, True):
            for delay in (0, 50):
                count = max(connections, scale // (8 if stream else 2))
                found.append(Load("latency", connections, count, stream, delay))
    shadow = ("gateway-durable", "gateway-shadow")
    found.append(Load("open", requests=scale, share_of_saturation=0.3, cases=shadow))
    found.append(
        Load("memory", requests=scale * 5, cases=("gateway-durable", "gateway-off", "gateway-durable@haproxy"))
    )
    if options.trace:
        found.append(Load("trace", requests=scale, cases=("direct", "gateway-durable", "gateway-off", "litellm")))
    return found


@dataclass
class Bench:
    """The running cases, and what was measured."""

    options: argparse.Namespace
    work: Path
    serving: dict[str, Serving] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, cases: list[str]) -> None:
        """Bring up every case; the reason of each that does not come is kept."""
        address, process = mock(self.work)
        self.started.append(process)
        place = Place(self.options.cache, self.work, address)
        if "direct" in cases:
            self.serving["direct"] = Serving(f"http://{address}/v1/chat/completions", (process.pid,))
        for name in (case for case in cases if case in PEERS):
            try:
                self.serving[name], process = PEERS[name](place)
                self.started.append(process)
            except (RuntimeError, OSError, StopIteration) as error:
                self.missing[name] = str(error) or type(error).__name__
        for ingress in ("proxy", "haproxy"):
            inside = [
                case for case in cases if case not in OUTSIDE and case.endswith("@haproxy") == (ingress == "haproxy")
            ]
            if inside:
                self._serve(ingress, inside)

    def _serve(self, ingress: str, cases: list[str]) -> None:
        names = [case.removesuffix("@haproxy") for case in cases]
        script = processes.HERE / "gateway_serve.py"
        command = [sys.executable, script, self.work / ingress, processes.free_port(), ingress, *names]
        process = processes.start(command, self.work / f"serve-{ingress}.log", pipes=True)
        self.started.append(process)
        assert process.stdout is not None
        said = process.stdout.readline()
        found = json.loads(said) if said else {}
        for case, name in zip(cases, names, strict=True):
            one = found.get(name, {"error": f"Ray did not start; see {self.work / f'serve-{ingress}.log'}"})
            if "error" in one:
                self.missing[case] = one["error"]
            else:
                self.serving[case] = Serving(
                    one["url"], tuple(one["front"]), tuple(one["engine"]), one["model"], name != "serve-noop"
                )

    def stop(self) -> None:
        """End what was started, the newest first."""
        for process in reversed(self.started):
            if process.stdin is not None:
                process.stdin.close()  # a Serve session ends by itself
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    processes.stop(process)
            else:
                processes.stop(process)

    def measure(self, round_: int, case: str, load: Load) -> dict[str, Any]:
        """Ask once, and see what it took."""
        one = self.serving[case]
        command: list[str | Path] = [
            sys.executable, processes.HERE / "gateway_load.py", "--url", one.url, "--model", one.model,
            "--connections", str(load.connections), "--requests", str(load.requests), "--tokens", str(load.tokens),
            "--delay-ms", str(load.delay_ms), "--seed", str(1000 * self.options.seed + round_),
        ]  # fmt: skip
        command += ["--stream"] if load.stream else []
        command += self._pace(load)
        busy, memory = processes.load_average(), processes.rss_mb(one.front)
        front, engine = processes.cpu_s(one.front), processes.cpu_s(one.engine)
        asked = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if asked.returncode:
            raise RuntimeError(f"the load generator failed: {asked.stderr[-500:]}")
        found = json.loads(asked.stdout)
        answered = max(1, found["ok"])
        return {
            "load": load.name,
            "case": case,
            "round": round_,
            **found,
            "cpu_us": round(1e6 * (processes.cpu_s(one.front) - front) / answered, 1),
            "engine_cpu_us": round(1e6 * (processes.cpu_s(one.engine) - engine) / answered, 1),
            "rss_mb": round(processes.rss_mb(one.front), 2),
            "rss_growth_mb_per_100k": round(1e5 * (processes.rss_mb(one.front) - memory) / answered, 2),
            "load_average": busy,
            "shared_machine": busy > 2,
        }

    def _pace(self, load: Load) -> list[str]:
        if load.kind == "trace":
            return ["--trace", str(self.work / "trace.jsonl")]
        if not load.share_of_saturation:
            return []
        fastest = [
            row["per_s"] for row in self.rows if row["case"] == "gateway-durable" and row["load"] == "cpu-unary-0ms-c8"
        ]
        return ["--rate", str(round(load.share_of_saturation * max(fastest), 3))]


def steps(bench: Bench, options: argparse.Namespace) -> Iterator[tuple[int, str, Load]]:
    """Round by round, load by load, the cases in an order that turns: who is first changes."""
    names = list(bench.serving)
    for round_ in range(options.rounds):
        turned = names[round_ % len(names) :] + names[: round_ % len(names)]
        for load in loads(options):
            for case in turned:
                if (
                    load.kind in options.load
                    and case in load.cases
                    and not (load.stream and not bench.serving[case].streams)
                ):
                    yield round_, case, load


def write_trace(source: Path, target: Path, count: int, rate: float) -> None:
    """The first arrivals of a recorded trace, sped up to ``rate`` a second; answers at most 64 tokens long."""
    opener = gzip.open if source.suffix == ".gz" else open
    with opener(source, "rt") as file:  # type: ignore[operator]
        found = [json.loads(line) for line, _ in zip(file, range(count), strict=False)]
    speed = rate * (found[-1]["t"] or 1.0) / len(found)
    rows = [
        {
            "at": row["t"] / speed,
            "prompt": min(row["context_tokens"], 512),
            "answer": min(row["generated_tokens"], 64) or 1,
        }
        for row in found
    ]
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(bench: Bench, options: argparse.Namespace, kept: Path) -> None:
    """All that is not measured yet."""
    bench.rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(row["round"], row["case"], row["load"]) for row in bench.rows}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    plan = [step for step in steps(bench, options) if (step[0], step[1], step[2].name) not in known]
    with kept.open("a") as file, Progress(*columns, disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task("", total=len(plan))
        for round_, case, load in plan:
            shown.update(task, description=f"round {round_ + 1}: {case} {load.name}")
            row = bench.measure(round_, case, load)
            bench.rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            shown.advance(task)


def options_of() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="few cases, one round, no result file")
    parser.add_argument("--only", action="append", choices=CASES, help="a case; may be given again")
    parser.add_argument("--load", action="append", choices=KINDS, help="a kind of measurement; may be given again")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=800, help="unary requests of one measurement of processor time")
    parser.add_argument("--trace", type=Path, help="JSON lines with t, context_tokens, generated_tokens; gzip or not")
    parser.add_argument("--trace-rate", type=float, default=20.0, help="requests a second of the replay")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/flywheel-bench"), help="the peers' environments")
    parser.add_argument("--name", default="gateway-cost", help="of the result file")
    parser.add_argument("--fresh", action="store_true", help="forget what an interrupted run measured")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.load = options.load or list(KINDS)
    if options.short:
        options.rounds, options.requests = 1, min(options.requests, 200)
    options.cache = options.cache.expanduser().resolve()
    return options


def main() -> None:
    """Start, measure, compare, write."""
    options = options_of()
    cases = options.only or list(SHORT if options.short else CASES)
    stamp = f"{'short' if options.short else options.name}-{options.seed}"
    kept = options.cache / "rows" / f"{stamp}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh or options.short:
        kept.unlink(missing_ok=True)
    work = options.cache / "work" / f"{stamp}-{time.time_ns()}"
    work.mkdir(parents=True)
    if options.trace:
        write_trace(options.trace, work / "trace.jsonl", options.requests, options.trace_rate)
    bench = Bench(options, work)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what it started
    try:
        bench.start(cases)
        run(bench, options, kept)
    finally:
        bench.stop()
    print(targets.table(bench.rows))
    for case, reason in bench.missing.items():
        print(f"{case}: left out: {reason}")
    found = targets.found(bench.rows, options.seed)
    for target in found:
        print(json.dumps(target))
    if not options.short:
        notes = [{"case": case, "left_out": reason} for case, reason in bench.missing.items()]
        print(results_file.write(options.name, options.seed, [*bench.rows, *notes], found))


if __name__ == "__main__":
    main()
