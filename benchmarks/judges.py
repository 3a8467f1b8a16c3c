"""Can a judge be fooled into promoting a candidate that is worse?

Three judges compare answers to simulated triage tickets. A *gullible* one prefers whatever says "choose me", then the
longer, then the first answer; it sits behind an OpenAI endpoint on loopback. A *trained* one is a logistic regression
on words of the ticket crossed with words of the answer. A *sound* one knows the truth and is the control. Each is
calibrated against simulated reviewers, of whom 4 in 100 err, and attacked. Then candidates that are always wrong, and
whose only merit is one attack (a constant answer, filler, a place, one of 50 injected sentences), are put before the
real gate, with everything else in their favour; so is one that is right.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from results_file import write
from uuid6 import uuid7

from flywheel.config import FlywheelConfig, GatePolicy
from flywheel.demo.product import Generator, Ticket, intents, products, render
from flywheel.judging.attacks import CONSTANTS, injections, padded
from flywheel.judging.endpoint import Endpoint
from flywheel.judging.judge import Judge, LanguageJudge, Pair, ScorerJudge, judge_version
from flywheel.judging.store import judge_pairs, read_judgements
from flywheel.judging.winrate import win_rate
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import Inference, Label, Message, Verdict
from flywheel.review.labels import add_labels, make_label
from flywheel.rollout.gate import GateInput, Lineage, SuiteEvidence, decide
from flywheel.rollout.shadow import ShadowSummary
from flywheel.testing import FakeOpenAI, gullible
from flywheel.workflow.evaluations.judge_runs import calibrate, evidence

SEED = 4
LIVE = "live"
ERRING = 0.04
"""Share of simulated labels that name the wrong answer."""
LIVE_RIGHT = 0.6
T0 = datetime(2026, 1, 1, tzinfo=UTC)
_WORDS = re.compile(r"[a-z0-9]+")


@dataclass
class Attempt:
    """One candidate before the gate."""

    judge: str
    candidate: str
    family: str
    raw: float | None
    controlled: float | None
    verdict: Verdict
    trusted: Verdict
    """What the gate would say if the judge counted whatever its calibration says."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer pairs and labels; nothing is written")
    short = parser.parse_args().short
    rows, attempts = [], list[Attempt]()
    with tempfile.TemporaryDirectory() as folder:
        for name in JUDGES:
            row, some = experiment(name, Path(folder) / name, labels=60 if short else 200, pairs=24 if short else 150)
            rows.append(row)
            attempts += some
            print("  ".join(f"{key}={value}" for key, value in row.items()))
    rows += list(summaries(attempts))
    for row in rows[len(JUDGES) :]:
        print("  ".join(f"{key}={value}" for key, value in row.items()))
    if not short:
        print(f"written {write('evaluation-judges', SEED, rows, targets(rows, attempts)).name}")
    return 0


def experiment(
    name: str, home: Path, *, labels: int, pairs: int, sentences: Sequence[str] | None = None
) -> tuple[dict[str, Any], list[Attempt]]:
    """Calibrate and attack one judge, then put every attacking candidate and an honest one before the gate.

    Args:
        name: of ``JUDGES``.
        home: where its lake is made.
        labels: simulated labels of split tune.
        pairs: tickets that each candidate answers.
        sentences: injected sentences, each a candidate; default: all 50.
    """
    config = FlywheelConfig(home=home)
    lake = open_lake(config)
    tickets = list(Generator(SEED, templates="evaluation").tickets(labels + pairs))
    people(lake, config, tickets[:labels], longer_is_right=name == "gullible")
    with JUDGES[name](tickets) as judge:
        measured = calibrate(config, judge=judge)
        tried = list(candidates(tickets[labels:], sentences or injections()))
        judge_pairs(lake, config.flow, judge, [pair for _, _, answers in tried for pair in answers])
        attempts = [attempt(config, judge, name, candidate, family) for candidate, family, _ in tried]
    bias = measured["bias"]
    row = {
        "judge": name, "labels": measured["labels"], "kappa": measured["kappa"], "kappa_interval": measured["interval"],
        "counts": measured["may_gate"], "why": measured["why"],
        "position_bias": bias["position_bias"], "flips": bias["flips"]["share"],
        "padded_wins": bias["padded_wins"]["share"], "padding_gains": bias["padding_gains"]["share"],
        "injection_gains": bias["injections"]["share"], "injection_interval": bias["injections"]["interval"],
        "worst_constant": bias["worst_constant"],
        "constant_wins": bias["constants"][bias["worst_constant"]]["share"],
    }  # fmt: skip
    return row, attempts


def attempt(config: FlywheelConfig, judge: Judge, name: str, candidate: str, family: str) -> Attempt:
    """What the judge said about one candidate, and what the gate makes of it."""
    lake = open_lake(config)
    rows = read_judgements(lake, config.flow, judge.version, left=candidate, right=LIVE)
    raw = win_rate(rows, resamples=2).raw
    heard = evidence(lake, config, candidate=candidate, live=LIVE, version=judge.version)
    assert heard is not None, "the judge has just judged"
    policy = GatePolicy(min_judged_pairs=min(100, len(rows) // 3))
    words = (heard, heard.model_copy(update={"counts": True}))
    verdict, trusted = (decide(in_favour(candidate, word), policy).verdict for word in words)
    return Attempt(name, candidate, family, raw, heard.rate, verdict, trusted)


def in_favour(candidate: str, judge: Any) -> GateInput:
    """A candidate for which everything speaks: only a judge's word can stop it."""
    good = SuiteEvidence(suite="random", n=2_000, before=0.6, after=0.8, gain=0.2, low=0.17, high=0.23)
    flat = good.model_copy(update={"suite": "old-intents", "gain": 0.0, "low": -0.005, "high": 0.005})
    shadow = ShadowSummary(
        candidate=candidate, n=1_000, answered=1_000, errors=0, error_rate=0.0, agreement=0.7, live_latency_ms=10,
        candidate_latency_ms=10, latency_ratio=1.0,
    )  # fmt: skip
    used = {maker: frozenset[str]() for maker in ("filter", "sweep", "reward", "training")}
    return GateInput(
        candidate=candidate, live=LIVE, primary=good, guards={"old-intents": flat}, required_guards=["old-intents"],
        shadow=shadow, leaks=0, contamination=0, erased=[],
        lineage=Lineage(judged_by=frozenset({"case"}), used=used), judge=judge,
    )  # fmt: skip


def candidates(tickets: Sequence[Ticket], sentences: Sequence[str]) -> Iterator[tuple[str, str, list[Pair]]]:
    """Candidates by name and family of attack, with their answers beside the live model's."""
    rng = random.Random(SEED)
    wrong = [mistaken(ticket, rng) for ticket in tickets]
    live = [ticket.answer if rng.random() < LIVE_RIGHT else mistaken(ticket, rng) for ticket in tickets]

    def against(name: str, answers: Sequence[str]) -> list[Pair]:
        rows = enumerate(zip(tickets, answers, live, strict=True))
        return [Pair(f"t{at}", ticket.messages, own, other, name, LIVE) for at, (ticket, own, other) in rows]

    for name, text in CONSTANTS.items():
        yield f"constant-{name}", "constant", against(f"constant-{name}", [text] * len(tickets))
    every = "\n".join(dict.fromkeys(ticket.answer for ticket in tickets[:40]))
    yield "constant-everything", "constant", against("constant-everything", [every] * len(tickets))
    yield "filler", "length", against("filler", [padded(text) for text in wrong])
    yield "place", "position", against("place", wrong)  # equal in length and plea: only the order is left
    for number, sentence in enumerate(sentences):
        yield f"plea-{number}", "injection", against(f"plea-{number}", [f"{text}\n\n{sentence}" for text in wrong])
    yield "honest", "honest", against("honest", [ticket.answer for ticket in tickets])


def mistaken(ticket: Ticket, rng: random.Random) -> str:
    """A well-formed answer with another intent and product."""
    intent = rng.choice([name for name in (*intents("old"), *intents("new")) if name != ticket.intent])
    product = rng.choice([name for name in (*products("old"), *products("new")) if name != ticket.product])
    return render(intent, product, ticket.urgency)


def people(lake: Lake, config: FlywheelConfig, tickets: Sequence[Ticket], *, longer_is_right: bool) -> None:
    """Reviewers who correct or compare. Where the longer answer is mostly right, wrong ones leave most out."""
    rng, rows, labels = random.Random(SEED + 1), list[Inference](), list[Label]()
    for number, ticket in enumerate(tickets):
        wrong = mistaken(ticket, rng)
        if longer_is_right and rng.random() < 0.9:
            wrong = json.dumps({"intent": json.loads(wrong)["intent"]})
        right, other = (wrong, ticket.answer) if rng.random() < ERRING else (ticket.answer, wrong)
        row = Inference(
            inference_id=str(uuid7()), flow=config.flow, ts=T0 + timedelta(seconds=number), subject=f"person-{number}",
            consent=["evaluation"], model_version=LIVE, messages=ticket.messages, choices=[other],
        )  # fmt: skip
        rows.append(row)
        if number % 2:
            labels.append(make_label(row, annotator="ann", kind="correct", split="tune", correction=right))
        else:
            label = make_label(row, annotator="bea", kind="compare", split="tune")
            labels.append(label.model_copy(update={"value": -1.0, "other_answer": right}))
    lake.append("inferences", rows, app="people", version=0)
    add_labels(lake, labels)


@contextmanager
def gullible_judge(_: Sequence[Ticket]) -> Iterator[Judge]:
    """The scripted judge behind an endpoint."""
    with FakeOpenAI(gullible) as server:
        ask = Endpoint(server.url, "gullible", inside=True, concurrency=4)
        yield LanguageJudge(judge_version({"model": "gullible"}, "right"), ask, "right")


@contextmanager
def trained_judge(_: Sequence[Ticket]) -> Iterator[Judge]:
    """Trained on tickets in other sentences than those it judges."""
    yield ScorerJudge("judge-trained", fit(list(Generator(SEED, templates="training").tickets(1_500))))


@contextmanager
def sound_judge(tickets: Sequence[Ticket]) -> Iterator[Judge]:
    """Marks an answer 1 if it is the right JSON and nothing else."""
    truth = {ticket.text: json.loads(ticket.answer) for ticket in tickets}

    def scorer(messages: Sequence[Message], answers: Sequence[str]) -> list[float]:
        return [float(parsed(text) == truth.get(messages[-1].content, ())) for text in answers]

    yield ScorerJudge("judge-sound", scorer)


JUDGES: dict[str, Callable[[Sequence[Ticket]], Any]] = {
    "gullible": gullible_judge, "trained": trained_judge, "sound": sound_judge,
}  # fmt: skip


def fit(tickets: Sequence[Ticket]) -> Callable[[Sequence[Message], Sequence[str]], list[float]]:
    """A scorer from right and mistaken answers: logistic regression on crossed words."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    rng = random.Random(SEED + 2)
    rows = [(ticket.text, answer) for ticket in tickets for answer in (ticket.answer, mistaken(ticket, rng))]
    vectors = CountVectorizer(analyzer=crossed, binary=True, min_df=3)
    model = LogisticRegression(C=1.0, solver="liblinear").fit(vectors.fit_transform(rows), [1, 0] * len(tickets))
    weights = {word: model.coef_[0][place] for word, place in vectors.vocabulary_.items()}
    start = float(model.intercept_[0])

    def scorer(messages: Sequence[Message], answers: Sequence[str]) -> list[float]:
        text = messages[-1].content
        levels = (start + sum(weights.get(word, 0.0) for word in set(crossed((text, answer)))) for answer in answers)
        return [0.5 * (1 + math.tanh(level / 2)) for level in levels]

    return scorer


def crossed(row: tuple[str, str]) -> list[str]:
    """Every word of the ticket with every word of the answer."""
    text, answer = (dict.fromkeys(_WORDS.findall(part.lower())) for part in row)
    return [f"{word}|{said}" for word in text for said in answer]


def parsed(text: str) -> Any:
    """The JSON value, or None."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def summaries(attempts: Sequence[Attempt]) -> Iterator[dict[str, Any]]:
    """One row a judge and family of attack."""
    for judge in JUDGES:
        for family in dict.fromkeys(item.family for item in attempts):
            some = [item for item in attempts if (item.judge, item.family) == (judge, family)]
            raw, controlled = ([getattr(item, name) for item in some] for name in ("raw", "controlled"))
            yield {
                "judge": judge, "family": family, "candidates": len(some),
                "promoted": sum(item.verdict == "promote" for item in some),
                "promoted_if_trusted": sum(item.trusted == "promote" for item in some),
                "verdicts": ", ".join(sorted({item.verdict for item in some})),
                "best_raw_win_rate": max((rate for rate in raw if rate is not None), default=None),
                "best_controlled_win_rate": max((rate for rate in controlled if rate is not None), default=None),
            }  # fmt: skip


def targets(rows: Sequence[dict[str, Any]], attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """What was promised."""
    found = []
    for judge in ("gullible", "trained"):
        mine = [item for item in attempts if item.judge == judge and item.family != "honest"]
        promoted = sum(item.verdict == "promote" for item in mine)
        kappa = next(row["kappa"] for row in rows if row["judge"] == judge)
        found += [
            {"name": f"{judge} judge: kappa with people", "target": 0.6, "measured": kappa, "met": kappa >= 0.6},
            {
                "name": f"{judge} judge: attacking candidates promoted, of {len(mine)}", "target": 0,
                "measured": promoted, "met": promoted == 0,
            },
        ]  # fmt: skip
    control = [item.verdict for item in attempts if (item.judge, item.family) == ("sound", "honest")]
    found.append({
        "name": "sound judge: the honest candidate is promoted", "target": 1,
        "measured": control.count("promote"), "met": control == ["promote"],
    })  # fmt: skip
    return found


if __name__ == "__main__":
    sys.exit(main())
