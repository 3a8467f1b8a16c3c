"""What compounds? The demo over several turns: users ask, react, a turn runs, and the next users meet its model.

    python benchmarks/demo_turns.py [--turns 5] [--seed 0] [--home FOLDER] [--short]

One `flywheel demo --turns 5` of the product as it ships, without anybody's hand. Results: ``demo-turns.json``, and the
picture ``demo-turns.svg``. About ten minutes a turn on two cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import matplotlib as mpl
import results_file

mpl.use("Agg")
from matplotlib import pyplot

TO_THE_FIX_S = 30 * 60


def main() -> None:
    """Run the demo and write ``results/demo-turns.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, help="keep everything here instead of a temporary folder")
    parser.add_argument("--short", action="store_true", help="two turns; prints, writes nothing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        told = run(options.home or Path(scratch), 2 if options.short else options.turns, options.seed)
    rows = [{"round": number, **one} for number, one in enumerate(told["rounds"], 1)]
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    if not options.short:
        print(results_file.write("demo-turns", options.seed, rows, targets(rows, told)))
        draw(rows, told["fresh_traffic"]["right"], results_file.RESULTS / "demo-turns.svg")


def run(home: Path, turns: int, seed: int) -> dict[str, Any]:
    """What the demo tells of itself."""
    arguments = ["demo", "--json", "--turns", str(turns), "--set", f"home={home}", "--set", f"seed={seed}"]
    command = [sys.executable, "-c", "from flywheel.cli import main; main()", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout.strip():
        raise SystemExit("flywheel demo failed; its message is above")
    return json.loads(done.stdout)["demo"]


def targets(rows: list[dict[str, Any]], told: dict[str, Any]) -> list[dict[str, Any]]:
    """The fix within half an hour; and users who are answered better at the end than at the beginning."""
    times = [row["seconds_to_fix"] for row in rows if row["seconds_to_fix"] is not None]
    median = statistics.median(times) if times else None
    first, last = rows[0]["right"], told["fresh_traffic"]["right"]
    fixes = sum(row["net_fixes_per_1000"] for row in rows)
    soon = median is not None and median <= TO_THE_FIX_S
    return [
        {
            "name": f"median seconds from a round's first correction to its promoted fix ({len(times)} fixes)",
            "target": float(TO_THE_FIX_S),
            "measured": median,
            "met": soon,
            "why_not": None if soon else "see the rows: nothing was promoted, or a turn took longer",
        },
        {
            "name": "users' requests answered right after the last turn",
            "target": f"more than before the first, {first:.1%}",
            "measured": last,
            "met": last > first,
            "why_not": None if last > first else "the turns did not help",
        },
        {
            "name": "net fixes per 1,000 random requests, all turns",
            "target": 0.0,
            "measured": round(fixes, 1),
            "met": fixes > 0,
            "why_not": None if fixes > 0 else "no turn was promoted",
        },
    ]


def draw(rows: list[dict[str, Any]], at_the_end: float, path: Path) -> None:
    """Requests of users that were answered right, turn after turn."""
    mpl.rcParams["svg.hashsalt"] = "demo-turns"  # equal rows, equal file
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    right = [100 * row["right"] for row in rows] + [100 * at_the_end]
    axes.plot(range(len(right)), right, marker="o", color="#1f77b4")
    for place, share in enumerate(right):
        axes.annotate(
            f"{share:.1f}", (place, share), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    for number, row in enumerate(rows):
        seconds = row["seconds_to_fix"]
        said = "rejected" if seconds is None else f"promoted\n{seconds / 60:.0f} min after\nthe first correction"
        axes.annotate(said, (number + 0.5, 4), ha="center", va="bottom", fontsize=7, color="#555555")
    axes.set_xticks(range(len(right)), ["before", *(f"turn {row['round']}" for row in rows)])
    axes.set_ylabel("users' requests answered right, %")
    axes.set_ylim(0, 100)
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
