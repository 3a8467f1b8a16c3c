"""The demo's turn with a real language model of 135 million parameters: how good, how long, how much memory?

python benchmarks/demo_smollm2.py [--seed 0] [--short]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import psutil
import results_file
from processor import fast_dtype

SAMPLE_S = 10.0  # reading the memory of all these processes takes a while itself


def main() -> None:
    """Run ``flywheel demo --model smollm2`` and write ``results/demo-smollm2.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="keep everything here instead of a temporary folder")
    parser.add_argument("--short", action="store_true", help="the same; here for `make bench`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result, peak_gb, seconds = run(options.home or Path(scratch), options.seed)
    rows, targets = report(result, peak_gb, seconds)
    print(results_file.write("demo-smollm2", options.seed, rows, targets))


def run(home: Path, seed: int) -> tuple[dict[str, Any], float, float]:
    """The demo as a user would run it: its JSON, the most memory its processes held at once (GB), seconds."""
    code = "from flywheel.cli import main; main()"
    changes = [f"home={home}", f"seed={seed}", f"training.dtype={fast_dtype()}", f"engine.dtype={fast_dtype()}"]
    arguments = ["demo", "--model", "smollm2", "--json", *(f"--set={change}" for change in changes)]
    begun, peak = time.monotonic(), 0
    with tempfile.TemporaryFile("w+") as out:
        process = psutil.Popen([sys.executable, "-c", code, *arguments], stdout=out)
        while process.poll() is None:
            peak = max(peak, memory_of(process, home))
            time.sleep(SAMPLE_S)
        out.seek(0)
        text = out.read()
    if not text.strip():
        raise SystemExit("flywheel demo failed; its message is above")
    return json.loads(text), peak / 1e9, time.monotonic() - begun


def memory_of(process: psutil.Process, home: Path) -> int:
    """Bytes that the process and all its descendants have to themselves (USS): shared pages count for nobody.

    Ray's processes are descendants of the supervisor, which is one of ours in its own session.
    """
    total = 0
    ours = [process, *process.children(recursive=True), *supervisors(home)]
    for one in {one.pid: one for one in ours}.values():
        try:
            total += one.memory_full_info().uss
        except psutil.Error:  # it ended meanwhile
            continue
    return total


def supervisors(home: Path) -> list[psutil.Process]:
    """What ``flywheel up`` started for this home apart from the command."""
    found: list[psutil.Process] = []
    for one in psutil.process_iter(["cmdline"]):
        command = " ".join(one.info["cmdline"] or [])
        if "flywheel.operate.supervisor" in command and str(home) in command:
            found += [one, *one.children(recursive=True)]
    return found


def report(result: dict[str, Any], peak_gb: float, seconds: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Print the table; rows and targets."""
    rows: list[dict[str, Any]] = []
    for name, suite in result["metrics"]["suites"].items():
        low, high = suite["interval"]
        rows.append({"suite": name, **suite})
        print(
            f"{name:<12} n={suite['n']:<5} before {suite['live']:.1%}  after {suite['candidate']:.1%}  "
            f"{suite['difference']:+.1%} [{low:+.1%}, {high:+.1%}]"
        )
    spent = {name: step.get("seconds") for name, step in result["steps"].items()}
    rows.append({"decision": result["decision"], "reasons": result["reasons"]})
    rows.append({"minutes": round(seconds / 60, 1), "peak_memory_gb": round(peak_gb, 2), "step_seconds": spent})
    rows.append({"demo": {key: result["demo"][key] for key in ("traffic", "labels", "fresh_traffic", "surrogates")}})
    print(f"decision: {result['decision']}; {seconds / 60:.1f} minutes, {peak_gb:.1f} GB")
    gain = result["metrics"]["suites"]["random"]
    met = gain["interval"][0] > 0
    return rows, [
        {
            "name": "gain on the random sample, points",
            "target": 0,
            "measured": round(100 * gain["difference"], 2),
            "interval": [round(100 * bound, 2) for bound in gain["interval"]],
            "peer": "the live model before the turn",
            "met": met,
            "why_not": None if met else "see DESIGN.md, section Measured",
        }
    ]


if __name__ == "__main__":
    main()
