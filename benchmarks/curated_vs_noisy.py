"""Does a model learn more from fewer, cleaner rows than from all of them, at equal compute?

People correct a model's answers, and a share of the corrections (20, 40, 60 %) is wrong. Of the same rows one model
learns from all (*noisy*), one from those that the shipped filter keeps (*curated*), one from a random subset of that
size (*fewer*: what cleaning costs without cleaning), one from those that are right (*oracle*: the most that a filter
could give). All start from the same base and take the same optimizer steps: every set is repeated until it has as many
rows as the noisy one; the tokens seen are reported and differ by a few per cent at most.

Two flows: the demo's triage (JSON with three fields; wrong corrections change one field) and banking77 with label noise
(another intent at random). Signals are those that need no reward model; ``tiny`` learns under Ray Train, and beside it,
in seconds, TF-IDF + linear SVM. Answers are greedy. Paired bootstrap over cases; a case keeps its number in all seeds
and is one cluster.

    python benchmarks/curated_vs_noisy.py [--flow triage banking77] [--learner svm tiny] [--seeds 3] [--short]

Results: ``quality-curated-vs-noisy.json`` and ``quality-curated-vs-noisy.svg``. ``--short``: the SVM alone, one seed;
prints, writes nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import banking77_data as data
import matplotlib as mpl
import numpy as np
import results_file
from matplotlib import pyplot

from flywheel.config import FilterConfig, FlywheelConfig, load
from flywheel.demo.models import tiny
from flywheel.demo.product import Generator, render
from flywheel.demo.users import mistaken_answer
from flywheel.quality.curate import select, to_example
from flywheel.quality.folds import make_folds
from flywheel.quality.rows import Candidate
from flywheel.quality.score import SignalTable
from flywheel.quality.signals import agreement, form, measure, trust
from flywheel.quality.signals.context import Context, Measured
from flywheel.records import Example, Message
from flywheel.statistics.bootstrap import paired_difference
from flywheel.telemetry import Silent
from flywheel.training.finetune import finetune
from flywheel.workflow.cluster import connected

BANKING = Path(__file__).resolve().parents[2] / "shared" / "data" / "banking77_train.jsonl.gz"
NOISE = (0.2, 0.4, 0.6)
ARMS = ("noisy", "curated", "fewer", "oracle")
USERS = 200
START = datetime(2026, 11, 1, tzinfo=UTC)
TRAINING: dict[str, Any] = {"epochs": 3, "micro_batch_size": 8, "learning_rate": 1e-3, "checkpoint_every": 10_000}
MOST_TOKENS = {"triage": 48, "banking77": 24}


@dataclass(frozen=True)
class Flow:
    """What people asked, what is right, what a wrong correction says, and cases that nobody trains on."""

    name: str
    asked: list[str]
    right: list[str]
    wrong: list[str]
    cases: list[tuple[str, str]]
    base: list[tuple[str, str]]
    """What the base model is tuned on first; empty: it knows its old intents already."""


def main() -> None:
    """Run, print, write ``results/quality-curated-vs-noisy.json`` and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flow", nargs="+", choices=["triage", "banking77"], default=["triage", "banking77"])
    parser.add_argument("--learner", nargs="+", choices=["svm", "tiny"], default=["svm", "tiny"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--file", type=Path, default=BANKING)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    if options.short:
        options.learner, options.seeds = ["svm"], 1
    if "banking77" in options.flow and not options.file.exists():
        print(f"banking77 is left out: {options.file} is not there; give --file FILE (columns text and label)")
        options.flow.remove("banking77")
    rows: list[dict[str, Any]] = []
    for name in options.flow:
        for learner in options.learner:
            rows += compare_flow(name, learner, range(options.seeds), options.file)
    if options.short:
        return
    draw(rows, results_file.RESULTS / "quality-curated-vs-noisy.svg")
    print(results_file.write("quality-curated-vs-noisy", 0, rows, targets(rows)))


def compare_flow(name: str, learner: str, seeds: Sequence[int], file: Path) -> list[dict[str, Any]]:
    """One row for every share of noise."""
    passed: dict[tuple[float, str], list[list[bool]]] = {}
    kept: dict[float, list[dict[str, float]]] = {noise: [] for noise in NOISE}
    for seed in seeds:
        flow = triage(seed) if name == "triage" else banking77(seed, file)
        with learning(learner, flow, seed) as fit:
            for noise in NOISE:
                sets, counts = training_sets(flow, noise, seed)
                for arm, examples in sets.items():
                    answers, tokens = fit(f"{arm}-{noise}-{seed}", examples)
                    passed.setdefault((noise, arm), []).append(
                        [same(said, right) for said, (_, right) in zip(answers, flow.cases, strict=True)]
                    )
                    counts[f"tokens_{arm}"] = tokens
                kept[noise].append(counts)
    return [result_row(name, learner, noise, passed, kept[noise]) for noise in NOISE]


def triage(seed: int, count: int = 1_500, cases: int = 600) -> Flow:
    """The demo's product."""
    rng = random.Random(f"noisy/{seed}")
    tickets = list(Generator(seed + 100, new_share=0.4).tickets(count))
    asked = list(Generator(seed + 200, templates="evaluation", new_share=0.4).tickets(cases))
    return Flow(
        "triage",
        [one.text for one in tickets],
        [one.answer for one in tickets],
        [mistaken_answer(rng, one) for one in tickets],
        [(one.text, one.answer) for one in asked],
        [],
    )


def banking77(seed: int, file: Path) -> Flow:
    """20 intents, 12 of which the base model knows."""
    splits = data.split(data.read_rows(file), seed)
    rng = random.Random(f"noisy/{seed}")
    names = [*splits.old, *splits.new]
    return Flow(
        "banking77",
        [row.text for row in splits.traffic],
        [row.label for row in splits.traffic],
        [rng.choice([name for name in names if name != row.label]) for row in splits.traffic],
        [(row.text, row.label) for row in splits.random_suite],
        [(row.text, row.label) for row in splits.tune],
    )


def training_sets(flow: Flow, noise: float, seed: int) -> tuple[dict[str, list[Example]], dict[str, float]]:
    """The four sets, each repeated to as many rows as the noisy one, and what the filter did."""
    rng = random.Random(f"noise/{flow.name}/{noise}/{seed}")
    wrong = [rng.random() < noise for _ in flow.asked]
    rows = [candidate(flow, place, is_wrong=bad, rng=rng) for place, bad in enumerate(wrong)]
    chosen = select(rows, signals_of(rows), FilterConfig(), max_examples=len(rows), seed=seed).kept
    bad = {row.inference_id for row, is_wrong in zip(rows, wrong, strict=True) if is_wrong}
    right = [row for row in rows if row.inference_id not in bad]
    sets = {"noisy": rows, "curated": chosen, "fewer": rng.sample(rows, len(chosen)), "oracle": right}
    good = sum(row.inference_id not in bad for row in chosen)
    counts = {"rows": len(rows), "kept": len(chosen), "precision": good / len(chosen), "recall": good / len(right)}
    return {arm: repeated(some, len(rows)) for arm, some in sets.items()}, counts


def candidate(flow: Flow, place: int, *, is_wrong: bool, rng: random.Random) -> Candidate:
    """A correction by one of ``USERS`` people, right or wrong."""
    user = f"customer-{rng.randrange(USERS):04d}"
    return Candidate(
        inference_id=f"{place:06d}", flow=flow.name, subject=user, rater=user, ts=START + timedelta(minutes=place),
        messages=[Message(role="user", content=flow.asked[place])], answer=unanswered(flow.name),
        target=flow.wrong[place] if is_wrong else flow.right[place], origin="correction",
    )  # fmt: skip


def unanswered(flow: str) -> str:
    """What was served: a fixed answer that every correction changes alike."""
    return render("greeting", "none", "low") if flow == "triage" else "unknown"


def signals_of(rows: Sequence[Candidate]) -> SignalTable:
    """What ``score`` computes of candidates without a reward model."""
    forms = form.learn(rows)
    supported = agreement.cross_fit(rows, make_folds(rows, 2), forms)
    measured = [Measured(row, agreement=support) for row, support in zip(rows, supported, strict=True)]
    raters, mean = trust.learn(measured)
    context = Context(forms, raters, mean)
    return {one.row.inference_id: measure(one, context) for one in measured}


def repeated(rows: Sequence[Candidate], count: int) -> list[Example]:
    """``count`` examples; a smaller set comes round again, as further epochs would."""
    made = [to_example(row) for row in rows]
    turns = (made[place % len(made)].model_copy(update={"example_id": f"row-{place}"}) for place in range(count))
    return list(turns)


class learning:  # noqa: N801  (a context manager that reads as a verb)
    """Gives ``fit(name, examples) -> (answers to the flow's cases, tokens)``."""

    def __init__(self, learner: str, flow: Flow, seed: int) -> None:
        self.learner, self.flow, self.seed = learner, flow, seed
        self.scratch = tempfile.TemporaryDirectory()
        self.config: FlywheelConfig | None = None
        self.cluster: Any = None
        self.base: Path | None = None

    def __enter__(self) -> Callable[[str, list[Example]], tuple[list[str], int]]:
        if self.learner == "svm":
            return self._svm
        work = Path(self.scratch.name)
        settings: dict[str, Any] = {"flow": self.flow.name, "home": str(work / "home"), "seed": self.seed}
        self.config = load(FlywheelConfig, overrides={**settings, "training": TRAINING})
        self.cluster = connected(self.config)
        self.cluster.__enter__()
        self.base = tiny(self.config, Silent())
        if self.flow.base:
            known = [_example(self.flow, place, *pair) for place, pair in enumerate(self.flow.base)]
            self.base = self._train("base", known, epochs=14)[0]
        return self._tiny

    def __exit__(self, *error: object) -> None:
        if self.cluster is not None:
            self.cluster.__exit__(*error)
        self.scratch.cleanup()

    def _svm(self, _name: str, examples: list[Example]) -> tuple[list[str], int]:
        known = [(example.messages[0].content, example.target) for example in examples] + self.flow.base
        asked, words = [text for text, _ in self.flow.cases], sum(len(text.split()) for text, _ in known)
        if self.flow.name != "triage":
            return data.fit_svm([data.Row(*pair) for pair in known])(asked), words
        said = [(text, json.loads(target)) for text, target in known]  # a machine for each field
        columns = [
            data.fit_svm([data.Row(text, target[field]) for text, target in said])(asked)
            for field in ("intent", "product", "urgency")
        ]
        return [render(*fields) for fields in zip(*columns, strict=True)], words

    def _tiny(self, name: str, examples: list[Example]) -> tuple[list[str], int]:
        folder, tokens = self._train(name, examples)
        return greedy(folder, [text for text, _ in self.flow.cases], MOST_TOKENS[self.flow.name]), tokens

    def _train(self, name: str, examples: list[Example], **changes: Any) -> tuple[Path, int]:
        assert self.config is not None
        out = Path(self.scratch.name) / name
        result = finetune(
            self.config.training.model_copy(update=changes),
            base=self.base or Path(),
            examples=examples,
            out=out,
            storage=Path(self.scratch.name) / "train",
            run_name=f"{self.flow.name}-{name}",
            seed=self.seed,
        )
        return out, result.tokens


def _example(flow: Flow, place: int, text: str, right: str) -> Example:
    return Example(
        example_id=f"base-{place}", flow=flow.name, messages=[Message(role="user", content=text)], target=right,
        inference_ids=[], subject="base", origin="liked",
    )  # fmt: skip


def greedy(folder: Path, prompts: Sequence[str], most: int, batch: int = 64) -> list[str]:
    """Answers of a model folder, in this process."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    answers: list[str] = []
    for start in range(0, len(prompts), batch):
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
            for prompt in prompts[start : start + batch]
        ]
        asked = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            said = model.generate(
                input_ids=asked["input_ids"], attention_mask=asked["attention_mask"], max_new_tokens=most,
                do_sample=False, pad_token_id=pad, eos_token_id=tokenizer.eos_token_id,
            )  # fmt: skip
        answers += tokenizer.batch_decode(said[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def same(said: str, right: str) -> bool:
    """By value for JSON, else by text."""
    try:
        return json.loads(said) == json.loads(right)
    except ValueError:
        return said.strip() == right


def result_row(
    flow: str,
    learner: str,
    noise: float,
    passed: dict[tuple[float, str], list[list[bool]]],
    kept: list[dict[str, float]],
) -> dict[str, Any]:
    """Accuracies, and the paired gain of curated over each other arm; prints it."""
    right = {arm: np.array(passed[noise, arm], dtype=np.float64) for arm in ARMS}
    cases = np.tile(np.arange(right["noisy"].shape[1]), right["noisy"].shape[0])
    row: dict[str, Any] = {"flow": flow, "learner": learner, "noise": noise, "seeds": len(kept)}
    row |= {f"accuracy_{arm}": round(float(some.mean()), 4) for arm, some in right.items()}
    for arm in ("noisy", "fewer", "oracle"):
        gain = paired_difference(right["curated"].ravel(), right[arm].ravel(), clusters=cases)
        row[f"gain_over_{arm}"] = round(gain.mean, 4)
        row[f"gain_over_{arm}_interval"] = [round(gain.low, 4), round(gain.high, 4)]
    row["gain_by_seed"] = (right["curated"] - right["noisy"]).mean(axis=1).round(4).tolist()
    row |= {name: round(float(np.mean([counts[name] for counts in kept])), 4) for name in kept[0]}
    row["token_ratio"] = round(row["tokens_curated"] / row["tokens_noisy"], 4)
    low, high = row["gain_over_noisy_interval"]
    print(
        f"{flow:<10} {learner:<5} noise {noise:.0%}: noisy {row['accuracy_noisy']:.1%} curated "
        f"{row['accuracy_curated']:.1%} fewer {row['accuracy_fewer']:.1%} oracle {row['accuracy_oracle']:.1%}  gain "
        f"{100 * row['gain_over_noisy']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]  kept {row['kept']:.0f} of "
        f"{row['rows']:.0f}, {row['precision']:.1%} of them right; tokens x{row['token_ratio']:.3f}",
        flush=True,
    )
    return row


def targets(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The promise, once a curve's point."""
    found: list[dict[str, Any]] = []
    for row in rows:
        low, high = row["gain_over_noisy_interval"]
        met = low > 0
        why = "the interval reaches 0" if high >= 0 else "curation costs more than the noise does here"
        found.append({
            "name": f"curated over noisy, {row['flow']}, {row['learner']}, {row['noise']:.0%} noise, points: above",
            "target": 0.0,
            "measured": round(100 * row["gain_over_noisy"], 2),
            "interval": [round(100 * low, 2), round(100 * high, 2)],
            "peer": f"a random subset of that size: {row['accuracy_fewer']:.3f}; only right rows: "
            f"{row['accuracy_oracle']:.3f}; curated: {row['accuracy_curated']:.3f}",
            "met": met,
            "why_not": None if met else why,
        })  # fmt: skip
    return found


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """One panel a flow and learner: accuracy by noise."""
    mpl.rcParams["svg.hashsalt"] = "quality-curated-vs-noisy"  # equal rows, equal file
    panels = list(dict.fromkeys((row["flow"], row["learner"]) for row in rows))
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(3.6 * len(panels), 3.8), layout="constrained", sharey=True, squeeze=False
    )
    styles = {"curated": "tab:blue", "noisy": "tab:red", "fewer": "tab:orange", "oracle": "tab:gray"}
    for axis, panel in zip(axes[0], panels, strict=True):
        some = [row for row in rows if (row["flow"], row["learner"]) == panel]
        for arm, colour in styles.items():
            values = [100 * row[f"accuracy_{arm}"] for row in some]
            axis.plot([100 * row["noise"] for row in some], values, color=colour, marker=".", label=arm)
        axis.set(title=f"{panel[0]}, {panel[1]}", xlabel="wrong corrections, %", ylim=(0, 100))
    axes[0][0].set_ylabel("right answers, %")
    axes[0][0].legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
