"""How much of an attack on the feedback survives quarantine, and what honest people lose by it.

36 cells: four attacks (praise of garbage, burying good answers, pasted corrections, a slow drip behind a good name),
0.5, 1 and 4 % of all feedback rows, from 1, 20 and 250 accounts; and a world without an attack. ``poisoning_world``
says what the worlds are and what attackers know. Every cell goes through the functions that building candidates uses.

    python benchmarks/poisoning.py [--rows 100000] [--seed 0] [--short]

Results: ``quality-poisoning.json``, and the picture ``quality-poisoning.svg``. What a model learns from an attack is
measured by ``poisoning_models.py``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results_file
from poisoning_world import ATTACKS, Settings, World, make_world

from flywheel.config import TrustConfig
from flywheel.quality.candidates import build_candidates
from flywheel.quality.rows import Exclusions
from flywheel.quality.trust.apply import trusted
from flywheel.records import Feedback

ROWS = 100_000
SHARES = (0.005, 0.01, 0.04)
ACCOUNTS = (1, 20, 250)
MOST_ROWS = 100
MOST_OF_DATASET = 0.001
MOST_LOST = 0.02

Row = dict[str, Any]


def measure(world: World, config: TrustConfig) -> Row:
    """Quarantine a world's feedback, build candidates from the rest, and compare with the truth."""
    ids = {row.inference_id for row in world.inferences}
    begun = time.process_time()
    counted = trusted(world.inferences, world.feedback, config, consented=ids)
    seconds = time.process_time() - begun
    gone = {one.feedback_id: one.reason for one in counted.suspects}
    good = [name for name, true in world.good.items() if true]
    mistakes = [name for name, true in world.good.items() if not true and not world.hostile[name]]
    hostile = [name for name, it in world.hostile.items() if it]
    dataset = _candidates(world, counted.feedback, ids)
    harmless = [row for row in counted.feedback if not world.hostile[row.feedback_id]]
    without = _candidates(world, harmless, ids)
    return {
        "rows": len(world.feedback),
        "hostile": len(hostile),
        "survive": sum(name not in gone for name in hostile),
        "dataset": len(dataset),
        "poisoned": len(dataset - without),
        "buried": len(without - dataset),
        "good_lost": round(_share(good, gone), 5),
        "mistakes_out": round(_share(mistakes, gone), 5),
        "caught_by": dict(Counter(gone[name] for name in hostile if name in gone)),
        "good_lost_by": dict(Counter(gone[name] for name in good if name in gone)),
        "cpu_s": round(seconds, 1),
    }


def cell(settings: Settings, attack: str | None, *, share: float, accounts: int, seed: int, config: TrustConfig) -> Row:
    """One measured world with whether it keeps the promise; limits scale with its rows."""
    found = measure(make_world(settings, attack, share=share, accounts=accounts, seed=seed), config)
    few = found["survive"] < MOST_ROWS * settings.rows / ROWS
    clean = found["poisoned"] + found["buried"] < max(1.0, MOST_OF_DATASET * found["dataset"])
    if attack == "drip":
        few, clean = found["survive"] <= config.max_unconfirmed * accounts, True
    kept = found["good_lost"] <= MOST_LOST
    why = [
        text
        for text, fine in (("survivors", few), ("share of the dataset", clean), ("good rows lost", kept))
        if not fine
    ]
    return {"attack": attack or "none", "share": share, "accounts": accounts, **found,
            "met": not why, "missed": ", ".join(why)}  # fmt: skip


def _candidates(world: World, feedback: Sequence[Feedback], ids: Collection[str]) -> set[tuple[str, str]]:
    rows, _ = build_candidates(world.inferences, feedback, consented=ids, excluded=Exclusions())
    return {(row.inference_id, row.target) for row in rows}


def _share(names: Sequence[str], gone: Collection[str]) -> float:
    return sum(name in gone for name in names) / max(1, len(names))


def main() -> None:
    """Run all cells and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="10,000 rows, one share, fewer accounts; writes nothing")
    options = parser.parse_args()
    settings = Settings.of(10_000 if options.short else options.rows)
    shares, accounts = ((0.01,), (1, 20)) if options.short else (SHARES, ACCOUNTS)
    rows = [cell(settings, None, share=0.0, accounts=0, seed=options.seed, config=TrustConfig())]
    show(rows[0])
    for attack in ATTACKS:
        for share in shares:
            for number in accounts:
                rows.append(
                    cell(settings, attack, share=share, accounts=number, seed=options.seed, config=TrustConfig())
                )
                show(rows[-1])
    if not options.short:
        picture(rows, results_file.RESULTS / "quality-poisoning.svg")
        print(results_file.write("quality-poisoning", options.seed, rows, [target(row) for row in rows]))


def show(row: Row) -> None:
    """One line of the table."""
    print(
        f"{row['attack']:<7}{row['share']:>6.1%}{row['accounts']:>5} accounts  survive {row['survive']:>5} of "
        f"{row['hostile']:<5} poisoned {row['poisoned']:>4}  buried {row['buried']:>4}  "
        f"good lost {row['good_lost']:.2%}  "
        f"mistakes out {row['mistakes_out']:.0%}  {'ok' if row['met'] else 'MISSED: ' + row['missed']}  "
        f"{row['good_lost_by']}",
        flush=True,
    )


def target(row: Row) -> Row:
    """The promise of one cell, in the form of result files."""
    limit = (
        f"<= {TrustConfig().max_unconfirmed * row['accounts']} rows"
        if row["attack"] == "drip"
        else f"< {MOST_ROWS} rows and < {MOST_OF_DATASET:.1%} of the dataset"
    )
    return {
        "name": f"{row['attack']}, {row['share']:.1%}, {row['accounts']} accounts: hostile rows that survive",
        "target": f"{limit}; good rows lost <= {MOST_LOST:.0%}",
        "measured": float(row["survive"]),
        "met": row["met"],
        "why_not": None if row["met"] else f"{row['missed']}; see DESIGN.md, Trust",
    }


def picture(rows: Sequence[Row], path: Path) -> None:
    """Surviving rows in the 36 cells, one panel an attack."""
    import matplotlib as mpl

    mpl.use("Agg")
    import numpy as np
    from matplotlib import pyplot
    from matplotlib.colors import LogNorm

    figure, panels = pyplot.subplots(1, len(ATTACKS), figsize=(13, 3.2), layout="constrained")
    shown = None
    for panel, attack in zip(panels, ATTACKS, strict=True):
        found = {(row["share"], row["accounts"]): row for row in rows if row["attack"] == attack}
        values = np.array([[found[share, number]["survive"] for number in ACCOUNTS] for share in SHARES], dtype=float)
        shown = panel.imshow(values + 1, norm=LogNorm(1, 4_000), cmap="YlOrRd")
        for place, share in enumerate(SHARES):
            for column, number in enumerate(ACCOUNTS):
                one = found[share, number]
                text = f"{one['survive']} / {one['hostile']}" + ("" if one["met"] else "\nmissed")
                panel.text(column, place, text, ha="center", va="center", fontsize=8)
        panel.set_title(attack)
        panel.set_xticks(range(len(ACCOUNTS)), [f"{number}" for number in ACCOUNTS])
        panel.set_yticks(range(len(SHARES)), [f"{share:.1%}" for share in SHARES])
        panel.set_xlabel("hostile accounts")
    panels[0].set_ylabel("hostile share of the feedback")
    figure.colorbar(shown, ax=panels, label="surviving rows + 1")
    figure.suptitle(f"Hostile feedback that survives quarantine, of {rows[0]['rows']:,} rows")
    figure.savefig(path)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
