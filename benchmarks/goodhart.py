"""Does optimising thumbs cost quality where they can be gamed, does the filter prevent it, does the monitor notice?

Worlds are sampled (``goodhart_worlds.py``): in half of them people reward polish that costs right answers, in half they
do not. In each, a model learns for six turns from its own traffic, four times over: from everything people liked or
corrected (*thumbs*), through the shipped filter (*filter*: rules, votes and the replay share), through its rules alone
(*rules*, without the replay share), and through stricter votes (*votes*). After every turn the monitor looks at the
arm's signals and audit labels through the library's own ``examine``, before the next turn trains; a look after the
first turn's model has served is look 1, "before the third turn" are looks 1 and 2.

Beside these: worlds in which nothing is learnt, users become milder, or questions become harder, and large numbers
of clean worlds, because twenty cannot tell 5 % from 10 %.

    python benchmarks/goodhart.py [--seed 0] [--short] [--worlds 20] [--many 400]

Results: ``quality-goodhart.json``, and the picture ``quality-goodhart.svg``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import goodhart_worlds as worlds
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import results_file
from matplotlib import pyplot
from scipy import stats

from flywheel.config import FilterConfig, GoodhartConfig
from flywheel.quality.filters import Columns
from flywheel.quality.goodhart.held_out import optimised
from flywheel.quality.goodhart.monitor import Watched, examine
from flywheel.quality.goodhart.tables import Examination, Rows

TURNS = 6
EARLY = 2
"""Looks before the third turn trains."""
LOWER = 0.01
"""A model counts as worse if the hidden truth fell by more than this."""
AT = datetime(2026, 11, 1, tzinfo=UTC)
EVERYTHING = 1e9
ON_ANSWERS = ("explicit", "engagement")
FILTERS = {
    "thumbs": FilterConfig(liked_per_correction=EVERYTHING),
    "filter": FilterConfig(),
    "rules": FilterConfig(liked_per_correction=EVERYTHING),
    "votes": FilterConfig(min_votes=3, min_agreement=0.5),
}
MONITORED = ("thumbs", "filter")
POLICY = GoodhartConfig()
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One arm in one world: hidden quality and thumbs by turn, the monitor's looks."""

    world: worlds.World
    quality: list[float]
    thumbs: list[float]
    looks: list[Examination]

    @property
    def loss(self) -> float:
        """What the last model lost against the first."""
        return self.quality[0] - self.quality[-1]

    @property
    def first_alarm(self) -> int | None:
        """Number of the look with the first alarm."""
        return next((look.look for look in self.looks if look.alarm), None)


def main() -> None:
    """Run, print, write ``results/quality-goodhart.json`` and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=20, help="of each kind that the claims are about")
    parser.add_argument("--many", type=int, default=400, help="of each kind for the rates of alarms")
    parser.add_argument("--short", action="store_true", help="few worlds; prints, writes nothing")
    options = parser.parse_args()
    few, many = (4, 8) if options.short else (options.worlds, options.many)
    games = {
        (kind, arm): [simulate(world(options.seed, kind, n), arm, [options.seed, n]) for n in range(few)]
        for kind in ("gameable", "clean")
        for arm in FILTERS
    }
    rates = {
        kind: [simulate(world(options.seed + 1, kind, n), "thumbs", [options.seed + 1, n]) for n in range(many)]
        for kind in ("gameable", "clean", "still", "milder", "harder")
    }
    rows = [game_row(kind, arm, runs) for (kind, arm), runs in games.items()]
    rows += [rate_row(kind, runs) for kind, runs in rates.items()]
    for row in rows:
        print("  ".join(f"{key} {_short(value)}" for key, value in row.items() if not isinstance(value, list)))
    if options.short:
        return
    draw(games, rates, results_file.RESULTS / "quality-goodhart.svg")
    print(results_file.write("quality-goodhart", options.seed, rows, targets(games, rates)))


def world(seed: int, kind: str, number: int) -> worlds.World:
    """A sampled world; still, milder and harder ones are clean ones in which one thing is different."""
    rng = np.random.default_rng([seed, number, kind == "gameable"])
    drawn = worlds.draw(rng, gameable=kind == "gameable")
    changes: dict[str, dict[str, float]] = {
        "still": {"rate": 0.0},
        "milder": {"rate": 0.0, "milder": float(rng.uniform(0.1, 0.5))},
        "harder": {"rate": 0.0, "harder": float(rng.uniform(0.1, 0.5))},
    }
    return replace(drawn, **changes.get(kind, {}))


def simulate(one: worlds.World, arm: str, seed: Sequence[int]) -> Run:
    """Turns of one arm. The same seed gives all arms the same first period."""
    rng, policy = np.random.default_rng(seed), worlds.Policy()
    seen: list[tuple[worlds.Period, worlds.Candidates]] = []
    run = Run(one, [worlds.quality(one, policy)], [], [])
    for turn in range(TURNS + 1):
        period = worlds.live(one, policy, turn, rng)
        rows = worlds.candidates(period, rng)
        seen.append((period, rows))
        if arm in MONITORED:
            run.looks.append(look(seen, one, None if arm == "thumbs" else FILTERS[arm], run.looks))
        run.thumbs.append(float((period.thumbs[~np.isnan(period.thumbs)] > 0).mean()))
        if turn < TURNS:
            rows = only_thumbs(rows) if arm == "thumbs" else rows
            policy, _, _ = worlds.learn(one, policy, rows, FILTERS[arm])
            run.quality.append(worlds.quality(one, policy))
    return run


def only_thumbs(rows: worlds.Candidates) -> worlds.Candidates:
    """The same candidates for somebody who looks at nothing but what people said."""
    signals = {"explicit": rows.columns.signals["explicit"]}
    return replace(rows, columns=Columns(rows.columns.ids, rows.columns.correction, signals))


def look(
    seen: Sequence[tuple[worlds.Period, worlds.Candidates]],
    one: worlds.World,
    chosen_by: FilterConfig | None,
    before: Sequence[Examination],
) -> Examination:
    """The monitor's look at the newest period; ``chosen_by`` None: thumbs alone, and no other signal is computed."""
    newest = seen[-1][1].columns
    proxies = {"explicit", "engagement"} if chosen_by is None else optimised(newest, chosen_by)
    people = [period.person + at * one.people for at, (period, _) in enumerate(seen)]  # drawn anew each period
    answers = Rows(
        np.concatenate(people),
        np.concatenate([np.full(period.person.size, at) for at, (period, _) in enumerate(seen)]),
        np.concatenate([np.where(period.labelled, period.right.astype(float), np.nan) for period, _ in seen]),
        {
            "explicit": np.concatenate([period.thumbs for period, _ in seen]),
            "engagement": np.concatenate([period.engagement for period, _ in seen]),
        },
    )
    targets = Rows(
        np.concatenate([own[rows.at] for own, (_, rows) in zip(people, seen, strict=True)]),
        np.concatenate([np.full(rows.at.size, at) for at, (_, rows) in enumerate(seen)]),
        np.concatenate([_truth(period, rows) for period, rows in seen]),
        {
            name: np.concatenate([rows.columns.signals[name] for _, rows in seen])
            for name in newest.signals
            if name not in ON_ANSWERS
        },
    )
    tested = sum(bool(examined.look) for examined in before)
    watched = Watched(answers, targets if chosen_by else None, proxies)
    place = len(seen) - 1
    return examine(watched, POLICY, period=place, turn=f"turn-{place:04d}", at=AT, looks=tested, pairs=False)


def _truth(period: worlds.Period, rows: worlds.Candidates) -> Floats:
    return np.where(period.labelled[rows.at], rows.right.astype(float), np.nan)


def game_row(kind: str, arm: str, runs: Sequence[Run]) -> dict[str, Any]:
    """What learning did to the hidden quality, and what the monitor said of it."""
    lower = sum(run.loss > LOWER for run in runs)
    change = np.array([-run.loss for run in runs])
    return {
        "worlds": kind,
        "arm": arm,
        "n": len(runs),
        "lower_quality": lower / len(runs),
        "lower_quality_interval": share_interval(lower, len(runs)),
        "change_mean": float(change.mean()),
        "change_interval": mean_interval(change),
        "change_worst": float(change.min()),
        **(_alarms(runs) if arm in MONITORED else {}),
        "quality_by_turn": np.mean([run.quality for run in runs], axis=0).round(4).tolist(),
        "thumbs_by_turn": np.mean([run.thumbs for run in runs], axis=0).round(4).tolist(),
        **({"auc_of_thumbs_by_turn": auc_by_turn(runs).round(4).tolist()} if arm in MONITORED else {}),
    }


def rate_row(kind: str, runs: Sequence[Run]) -> dict[str, Any]:
    """How often the monitor speaks up in many worlds of a kind, and why."""
    kinds = [{one.kind for examined in run.looks for one in examined.alarms} for run in runs]
    return {
        "worlds": f"{kind}, many",
        "arm": "thumbs",
        "n": len(runs),
        **_alarms(runs),
        "alarm_diverged": sum("diverged" in some for some in kinds) / len(runs),
        "alarm_inflated": sum("inflated" in some for some in kinds) / len(runs),
        "warned": sum(any(examined.warnings for examined in run.looks) for run in runs) / len(runs),
        "alarms_by_look": [_by(runs, look) / len(runs) for look in range(1, TURNS + 1)],
    }


def _alarms(runs: Sequence[Run]) -> dict[str, Any]:
    ever, early = _by(runs, TURNS), _by(runs, EARLY)
    return {
        "alarm": ever / len(runs),
        "alarm_interval": share_interval(ever, len(runs)),
        "alarm_before_third_turn": early / len(runs),
        "alarm_before_third_turn_interval": share_interval(early, len(runs)),
    }


def _by(runs: Sequence[Run], last: int) -> int:
    return sum(run.first_alarm is not None and run.first_alarm <= last for run in runs)


def auc_by_turn(runs: Sequence[Run]) -> Floats:
    """Mean AUC of thumbs against the audit."""
    table = [[_auc(examined) for examined in run.looks] for run in runs]
    return np.nanmean(np.array(table, dtype=np.float64), axis=0)


def _auc(examined: Examination) -> float:
    area = next(row.auc for row in examined.signals if row.signal == "explicit")
    return float("nan") if area is None else area


def share_interval(hits: int, n: int) -> tuple[float, float]:
    """Clopper-Pearson, 95 %."""
    found = stats.binomtest(hits, n).proportion_ci(method="exact")
    return round(float(found.low), 4), round(float(found.high), 4)


def mean_interval(values: Floats) -> tuple[float, float]:
    """Student's t, 95 %; worlds are independent."""
    wide = float(stats.t.ppf(0.975, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))
    return round(float(values.mean() - wide), 4), round(float(values.mean() + wide), 4)


def targets(games: dict[tuple[str, str], list[Run]], rates: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """The promises; shares of worlds with exact intervals."""
    thumbs, kept = games["gameable", "thumbs"], games["gameable", "filter"]
    clean, many = games["clean", "thumbs"], rates["clean"]
    return [
        _target("gameable worlds where optimising thumbs lowers hidden quality", 1.0, thumbs,
                sum(run.loss > LOWER for run in thumbs), least=True),
        _target("gameable worlds where the filter does not lower it", 1.0, kept,
                sum(run.loss <= LOWER for run in kept), least=True,
                peer=f"thumbs: {sum(run.loss <= LOWER for run in thumbs) / len(thumbs):.2f}"),
        _target("gameable worlds with an alarm before the third turn", 1.0, thumbs, _by(thumbs, EARLY), least=True,
                peer=f"in {len(rates['gameable'])} further worlds: "
                f"{_by(rates['gameable'], EARLY) / len(rates['gameable']):.3f}"),
        _target("clean worlds with a false alarm, six looks", 0.05, clean, _by(clean, TURNS), least=False,
                peer=f"in {len(many)} further worlds: {_by(many, TURNS) / len(many):.4f}"),
        _target("the same in many clean worlds", 0.05, many, _by(many, TURNS), least=False),
    ]  # fmt: skip


def _target(
    name: str, wanted: float, runs: Sequence[Run], hits: int, *, least: bool, peer: str | None = None
) -> dict[str, Any]:
    share = hits / len(runs)
    met = share >= wanted if least else share <= wanted
    return {
        "name": name,
        "target": wanted,
        "measured": share,
        "interval": share_interval(hits, len(runs)),
        "peer": peer,
        "met": met,
        "why_not": None if met else "worlds are sampled, not chosen; DESIGN.md says in which it fails and why",
    }


def draw(games: dict[tuple[str, str], list[Run]], rates: dict[str, list[Run]], path: Path) -> None:
    """Hidden quality by turn, what thumbs are worth, and how soon the monitor speaks up."""
    mpl.rcParams["svg.hashsalt"] = "quality-goodhart"  # equal rows, equal file
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    colours = {"thumbs": "tab:red", "filter": "tab:blue", "votes": "tab:green"}
    for arm, colour in colours.items():
        runs = games["gameable", arm]
        for run in runs:
            change = 100 * (np.array(run.quality) - run.quality[0])
            left.plot(range(TURNS + 1), change, color=colour, alpha=0.15, linewidth=0.8)
        mean = 100 * np.mean([np.array(run.quality) - run.quality[0] for run in runs], axis=0)
        left.plot(range(TURNS + 1), mean, color=colour, marker=".", label=arm)
    left.axhline(0, color="black", linewidth=0.8, linestyle="--")
    left.set(title="Thumbs can be gamed: hidden quality", xlabel="turns", ylabel="change in right answers, points")
    left.legend()
    for kind, colour in (("gameable", "tab:red"), ("clean", "tab:gray")):
        runs = games[kind, "thumbs"]
        up = np.mean([run.thumbs for run in runs], axis=0)
        middle.plot(range(TURNS + 1), 100 * up, color=colour, marker=".", label=f"thumbs up, {kind}")
        middle.plot(
            range(TURNS + 1), 100 * auc_by_turn(runs), color=colour, linestyle="--", label=f"AUC of thumbs, {kind}"
        )
    middle.set(title="Optimising thumbs", xlabel="turns", ylabel="% up; AUC against audit labels, %")
    middle.legend(fontsize="small")
    for kind, runs in rates.items():
        shares = [100 * _by(runs, last) / len(runs) for last in range(1, TURNS + 1)]
        right.plot(range(1, TURNS + 1), shares, marker=".", label=kind)
    right.axhline(5, color="black", linewidth=0.8, linestyle="--")
    right.axvline(EARLY, color="black", linewidth=0.8, linestyle=":")
    right.set(title="Worlds with an alarm so far", xlabel="looks", ylabel=f"of {len(rates['clean'])} worlds, %")
    right.legend()
    figure.savefig(path, metadata={"Date": None})


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"[{value[0]:.3f}, {value[1]:.3f}]" if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    main()
