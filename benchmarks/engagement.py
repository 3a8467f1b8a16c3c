"""Does the engagement loop raise what people get out of their lists, and does training on clicks lower it?

Worlds are sampled (``engagement_worlds.py``): bait gets clicks and disappoints, upper places are looked at more. In
each, a product orders lists for three turns, several times over. A turn is the library's own: lists are read and drawn
by the gateway's rule (``read_rank``, ``draw``) and recorded as rows, reactions become rows of feedback, a ranker is
trained from both tables (``quality.ranker``), scores the next lists in the shadow, and serves from the next turn on if
the off-policy check of promotions passes (``workflow.rankers.judge``). Arms differ in ``quality.ranker`` alone:

- *loop*: as shipped: several actions, weighted, with looks and chances corrected for;
- *uncorrected*: the same actions, as if every place were looked at and everything were shown at random;
- *naive*: clicks alone, uncorrected.

Nobody in an arm sees satisfaction. Each arm's promotions are judged by its own weights.

    python benchmarks/engagement.py [--seed 0] [--short] [--worlds 10]

Results: ``rollout-engagement.json``, and the picture ``rollout-engagement.svg``.
"""

from __future__ import annotations

import argparse
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import engagement_worlds as worlds
import matplotlib as mpl
import numpy as np
import pyarrow as pa
import results_file
from matplotlib import pyplot
from scipy import stats

from flywheel.config import EngagementRankerConfig, RankingConfig
from flywheel.gateway.choosing.rankers import Opinion
from flywheel.gateway.rank import columns
from flywheel.gateway.rank import draw as draw_list
from flywheel.gateway.rank_request import read_rank
from flywheel.inference.engagement_ranker import EngagementRanker
from flywheel.inference.item_features import Item
from flywheel.lake.schemas import to_arrow
from flywheel.quality.ranker.exposures import exposures
from flywheel.quality.ranker.train import Trained, train_ranker
from flywheel.records import Feedback, Inference, RankedItem, ShadowScores
from flywheel.workflow.rankers.judge import Judged, judge_ranker, mirrored

TURNS = 3
LEARN, SHADOW = 700, 700
"""Lists of a turn before the training, and behind it, while the candidate is in the shadow."""
FRESH, DRAWS = 1_000, 6
"""Requests that policies are compared on, and lists drawn for each; the same for all."""
SERVING = RankingConfig(ranker="engagement", policy="softmax", temperature=0.5, epsilon=0.1)
CLICKS = {"click": 1.0}
ARMS = {
    "loop": EngagementRankerConfig(),
    "uncorrected": EngagementRankerConfig(debias=False),
    "naive": EngagementRankerConfig(weights=CLICKS, debias=False),
}
LOOP, NAIVE = "loop", "naive"
VALUES = EngagementRankerConfig().weights
BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
WHY_NOT = "worlds are sampled, not chosen; DESIGN.md says what was seen"


@dataclass(frozen=True)
class Check:
    """One promotion: what was estimated, and what was true."""

    judged: Judged
    true_gain: float

    @property
    def covered(self) -> bool | None:
        """Whether the truth is in the interval; None: there was none."""
        gain = self.judged.gain
        return None if gain is None else gain.low <= self.true_gain <= gain.high


@dataclass
class Run:
    """One arm in one world: what lists are worth at the start and after each turn."""

    worth: list[worlds.Worth] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)


def main() -> None:
    """Run, print, write ``results/rollout-engagement.json`` and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=10)
    parser.add_argument("--short", action="store_true", help="two worlds; prints, writes nothing")
    options = parser.parse_args()
    started, count = time.monotonic(), 2 if options.short else options.worlds
    runs: dict[str, list[Run]] = {arm: [] for arm in ARMS}
    for number in range(count):
        world = worlds.draw(np.random.default_rng([options.seed, number]))
        for arm, config in ARMS.items():
            runs[arm].append(simulate(world, config, [options.seed, number]))
    rows = [arm_row(arm, runs) for arm in ARMS] + [looks_row(options.seed, runs[LOOP])]
    for row in rows:
        print("  ".join(f"{key} {_short(value)}" for key, value in row.items() if not isinstance(value, list)))
    print(f"{time.monotonic() - started:.0f} s")
    if options.short:
        return
    draw(runs, results_file.RESULTS / "rollout-engagement.svg")
    print(results_file.write("rollout-engagement", options.seed, rows, targets(runs)))


def simulate(
    world: worlds.World,
    config: EngagementRankerConfig,
    seed: Sequence[int],
    *,
    learn: int = LEARN,
    shadow: int = SHADOW,
    turns: int = TURNS,
) -> Run:
    """The turns of one arm. The same seed gives all arms the same people, requests and first period."""
    fresh = Asked.of(world, worlds.ask(world, FRESH, np.random.default_rng([*seed, 1])))
    rng, run, log, live = np.random.default_rng([*seed, 2]), Run(), Log(), None
    run.worth.append(value_of(fresh, live, VALUES))
    for _ in range(turns):
        serve(Asked.of(world, worlds.ask(world, learn, rng)), log, rng, live=live)
        done = train(log, config)
        serve(Asked.of(world, worlds.ask(world, shadow, rng)), log, rng, live=live, candidate=done.ranker)
        judged = judge(log, config)
        would, was = (value_of(fresh, one, config.weights).reward for one in (done.ranker, live))
        run.checks.append(Check(judged, would - was))
        live = done.ranker if judged.passed else live
        run.worth.append(value_of(fresh, live, VALUES))
        run.looks = done.report.looks
    return run


@dataclass(frozen=True)
class Asked:
    """Requests as the product sends them."""

    world: worlds.World
    requests: worlds.Requests
    items: list[list[Item]]

    @classmethod
    def of(cls, world: worlds.World, requests: worlds.Requests) -> Asked:
        """With what the product knows of each item."""
        known = [
            {"flash": round(flash, 4), "source": round(source, 4), "age_h": round(age, 2), "topic": f"t{topic}"}
            for flash, source, age, topic in zip(
                world.flash.tolist(), world.source.tolist(), world.age_h.tolist(), world.topic.tolist(), strict=True
            )
        ]
        items = [
            [Item(f"i{item}", "", {**known[item], "affinity": near}) for item, near in zip(row, told, strict=True)]
            for row, told in zip(requests.items.tolist(), requests.affinity.round(4).tolist(), strict=True)
        ]
        return cls(world, requests, items)

    def scored(self, ranker: EngagementRanker | None) -> worlds.Floats:
        """(requests, POOL): a ranker's scores, or the product's own, in units of their spread like a ranker's."""
        if ranker is None:
            own = self.world.popular[self.requests.items]
            return own / own.std()
        return np.array(ranker.scores([item for row in self.items for item in row])).reshape(self.requests.items.shape)


@dataclass
class Log:
    """What a gateway has recorded so far, period by period, as the lake has it."""

    inferences: list[pa.Table] = field(default_factory=list)
    feedback: list[pa.Table] = field(default_factory=list)
    rows: int = 0

    def add(self, rows: Sequence[Inference], reactions: Sequence[Feedback]) -> None:
        """One more period."""
        self.inferences.append(to_arrow("inferences", rows))
        self.feedback.append(to_arrow("feedback", reactions))
        self.rows += len(rows)

    def tables(self, newest: int = 0) -> tuple[pa.Table, pa.Table]:
        """Inferences and feedback, of the newest periods or (0) of all."""
        return pa.concat_tables(self.inferences[-newest:]), pa.concat_tables(self.feedback[-newest:])


def train(log: Log, config: EngagementRankerConfig) -> Trained:
    """What ``flywheel ranker train`` does with the tables."""
    lists, feedback = log.tables()
    allowed = set(lists["inference_id"].to_pylist())
    return train_ranker(exposures(lists, feedback, allowed=allowed, config=config), config)


def judge(log: Log, config: EngagementRankerConfig) -> Judged:
    """What ``flywheel ranker promote`` does with the newest period, at the first look."""
    lists, feedback = log.tables(newest=1)
    allowed = set(lists["inference_id"].to_pylist())
    return judge_ranker(mirrored(lists, feedback, version="candidate", allowed=allowed), config)


def serve(
    asked: Asked, log: Log, rng: np.random.Generator, *,
    live: EngagementRanker | None, candidate: EngagementRanker | None = None,
) -> None:  # fmt: skip
    """Answer requests as a gateway does, and record what people do with the lists."""
    scores, beside = asked.scored(live), asked.scored(candidate) if candidate else None
    people = asked.requests.person.tolist()
    shown = np.empty((len(people), worlds.PLACES), dtype=np.intp)
    rows: list[Inference] = []
    for number, person in enumerate(people):
        at = log.rows + number
        items = [{"id": item.id, "features": item.features} for item in asked.items[number]]
        body = {"items": items, "user": f"u{person}", "k": worlds.PLACES, "idempotency_key": f"r{at}"}
        wanted = read_rank(body, {"x-flywheel-consent": "training,evaluation"}, tenant="t", settings=SERVING)
        opinion = Opinion(scores[number].tolist(), "live" if live else None, None)
        drawn = draw_list(wanted, opinion)
        shown[number] = drawn.order
        told = [] if beside is None else [ShadowScores(version="candidate", scores=beside[number].tolist())]
        rows.append(
            Inference(
                inference_id=_id(at), flow="feed", ts=BEGIN + timedelta(seconds=at), subject=f"u{person}",
                consent=wanted.asked.consent, model_version="v1", messages=[], shadow_scores=told,
                **columns(wanted, "engagement" if live else "given", opinion, drawn),
            )
        )  # fmt: skip
    did = worlds.react(asked.world, asked.requests, shown, rng)
    log.add(rows, [event for number, row in enumerate(rows) for event in _feedback(row, shown[number], number, did)])


def value_of(fresh: Asked, ranker: EngagementRanker | None, weights: dict[str, float]) -> worlds.Worth:
    """What lists are worth under the serving policy, its exploration included; the same draws for everybody."""
    rng, scores = np.random.default_rng(7), fresh.scored(ranker)
    found = []
    for _ in range(DRAWS):
        explores = rng.random(len(scores)) < SERVING.epsilon
        noisy = np.where(explores[:, None], 0.0, scores / SERVING.temperature) + rng.gumbel(size=scores.shape)
        shown = np.argsort(-noisy, axis=1)[:, : worlds.PLACES]
        found.append(worlds.worth(fresh.world, fresh.requests, shown, weights))
    return worlds.mean_worth(found)


def _feedback(row: Inference, shown: worlds.Indices, number: int, did: worlds.Reactions) -> list[Feedback]:
    """What a product reports: what was on screen, and each thing that was done."""
    ids = [row.ranking[index].id for index in shown]
    seen = [
        RankedItem(id=one, rank=place + 1, shown_ms=1_000.0)
        for place, one in enumerate(ids)
        if did.on_screen[number, place]
    ]
    found = [_event(row, "dwell", 3_000.0, seen)]
    for place in np.flatnonzero(did.opened[number]):
        done = ["click", *(name for name, happened in did.did.items() if happened[number, place])]
        found += [_event(row, "click", None, [RankedItem(id=ids[place], rank=place + 1, action=name)]) for name in done]
        stayed = float(did.stayed_ms[number, place])
        found.append(_event(row, "dwell", stayed, [RankedItem(id=ids[place], rank=place + 1)]))
    return found


def _event(row: Inference, kind: Any, value: float | None, items: list[RankedItem]) -> Feedback:
    return Feedback(
        feedback_id=str(uuid.uuid4()), inference_id=row.inference_id, flow=row.flow, ts=row.ts, subject=row.subject,
        kind=kind, value=value, items=items, source="implicit",
    )  # fmt: skip


def _id(number: int) -> str:
    """A UUIDv7 of the simulated time; ids sort as their rows do."""
    moment = int((BEGIN + timedelta(seconds=number)).timestamp() * 1000)
    return str(uuid.UUID(int=(moment << 80) | (7 << 76) | (2 << 62) | number))


def arm_row(arm: str, runs: dict[str, list[Run]]) -> dict[str, Any]:
    """One arm over all worlds."""
    own = runs[arm]
    change = _change(own)
    against = change - _change(runs[NAIVE])
    checks = [check for run in own for check in run.checks]
    covered = [check.covered for check in checks if check.covered is not None]
    return {
        "arm": arm,
        "worlds": len(own),
        "satisfaction_start": float(np.mean([run.worth[0].satisfaction for run in own])),
        "satisfaction_end": float(np.mean([run.worth[-1].satisfaction for run in own])),
        "change": float(change.mean()),
        "change_interval": interval(change),
        "change_worst": float(change.min()),
        "better_than_naive": float(against.mean()),
        "better_than_naive_interval": interval(against) if arm != NAIVE else None,
        "clicks_change": float(np.mean([run.worth[-1].clicks - run.worth[0].clicks for run in own])),
        "harm_change": float(np.mean([run.worth[-1].harm - run.worth[0].harm for run in own])),
        "promoted": sum(check.judged.passed for check in checks),
        "checks": len(checks),
        "wrongly_promoted": sum(check.judged.passed and check.true_gain <= 0 for check in checks),
        "covered": float(np.mean(covered)),
        "covered_nominal": 1 - 0.05 * 6 / np.pi**2,
        "effective_lists": float(np.mean([check.judged.gain.effective for check in checks if check.judged.gain])),
        "satisfaction_by_turn": np.mean([[one.satisfaction for one in run.worth] for run in own], axis=0)
        .round(4)
        .tolist(),
        "clicks_by_turn": np.mean([[one.clicks for one in run.worth] for run in own], axis=0).round(4).tolist(),
        "harm_by_turn": np.mean([[one.harm for one in run.worth] for run in own], axis=0).round(5).tolist(),
        "change_by_world": change.round(4).tolist(),
    }


def looks_row(seed: int, runs: Sequence[Run]) -> dict[str, Any]:
    """How well the looks were found, behind the last turn."""
    true = [worlds.looks(worlds.draw(np.random.default_rng([seed, number]))) for number in range(len(runs))]
    found = [np.array(run.looks) for run in runs]
    errors = [float(np.abs(own - what[: own.size]).mean()) for own, what in zip(found, true, strict=True)]
    return {"arm": LOOP, "worlds": len(runs), "looks_error": float(np.mean(errors)), "looks_error_worst": max(errors)}


def _change(runs: Sequence[Run]) -> worlds.Floats:
    return np.array([run.worth[-1].satisfaction - run.worth[0].satisfaction for run in runs])


def interval(values: worlds.Floats) -> tuple[float, float]:
    """Student's t, 95 %; worlds are independent."""
    wide = float(stats.t.ppf(0.975, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))
    return round(float(values.mean() - wide), 4), round(float(values.mean() + wide), 4)


def targets(runs: dict[str, list[Run]]) -> list[dict[str, Any]]:
    """The promises: intervals over worlds must lie above 0."""
    change = _change(runs[LOOP])
    against = change - _change(runs[NAIVE])
    naive = _change(runs[NAIVE])
    return [
        _target("hidden satisfaction of a list, three turns of the loop", change,
                f"naive: {naive.mean():+.4f} {interval(naive)}"),
        _target("the same, loop minus naive", against, None),
        {
            "name": "worlds in which the loop is above its start", "target": 1.0,
            "measured": float((change > 0).mean()),
            "peer": f"naive: {float((naive > 0).mean()):.2f}", "met": bool((change > 0).all()),
            "why_not": None if (change > 0).all() else WHY_NOT,
        },
    ]  # fmt: skip


def _target(name: str, values: worlds.Floats, peer: str | None) -> dict[str, Any]:
    low, high = interval(values)
    return {
        "name": name, "target": "interval above 0", "measured": round(float(values.mean()), 4), "interval": (low, high),
        "peer": peer, "met": low > 0, "why_not": None if low > 0 else WHY_NOT,
    }  # fmt: skip


def draw(runs: dict[str, list[Run]], path: Path) -> None:
    """Satisfaction, clicks and harm by turn."""
    mpl.rcParams["svg.hashsalt"] = "rollout-engagement"  # equal rows, equal file
    figure, axes = pyplot.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    panels = {
        "satisfaction": "Hidden satisfaction of a list",
        "clicks": "Clicks a list",
        "harm": "Hides and reports a list",
    }
    colours = {"loop": "tab:blue", "uncorrected": "tab:orange", "naive": "tab:red"}
    for axis, (name, title) in zip(axes, panels.items(), strict=True):
        for arm, colour in colours.items():
            table = np.array([[getattr(one, name) for one in run.worth] for run in runs[arm]])
            table = table - table[:, :1]
            if arm in {LOOP, NAIVE}:
                axis.plot(range(TURNS + 1), table.T, color=colour, alpha=0.2, linewidth=0.8)
            axis.plot(range(TURNS + 1), table.mean(axis=0), color=colour, marker=".", label=arm)
        axis.axhline(0, color="black", linewidth=0.8, linestyle="--")
        axis.set(title=title, xlabel="turns", ylabel="change from the start", xticks=range(TURNS + 1))
    axes[0].legend()
    figure.savefig(path, metadata={"Date": None})


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"[{value[0]:.4f}, {value[1]:.4f}]" if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    main()
