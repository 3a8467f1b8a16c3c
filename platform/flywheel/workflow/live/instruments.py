"""What can compare answers to live traffic here: rules, a reward model, a judge. Each says when it cannot, and why.

None of them may favour one of two equal answers, so each looks at both alike: the rules do not know whose answer they
see, the reward is a difference, the judge is asked in both orders.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from flywheel.config import FlywheelConfig
from flywheel.errors import FlywheelError, NotFoundInLakeError
from flywheel.evaluation.checks import Item, Scorers
from flywheel.judging.judge import Pair
from flywheel.judging.store import judge_pairs
from flywheel.lake.changes import pick
from flywheel.lake.manifests import content_id, read_manifest
from flywheel.lake.schemas import from_arrow, partition_date
from flywheel.lake.tables import Lake
from flywheel.quality.signals.context import Shape
from flywheel.quality.signals.form import common_shape, fits
from flywheel.records import Check, Inference
from flywheel.rollout.live.checks import VERSION, checks, form_rule
from flywheel.rollout.live.instrument import Instrument, Mirrored
from flywheel.workflow.evaluations import judge_runs
from flywheel.workflow.evaluations.scorers import make_scorers
from flywheel.workflow.turns.provenance import SAW

log = logging.getLogger(__name__)

_EXAMPLES: Final = 2_000
"""Training targets that show what answers look like."""
_TOGETHER: Final = 7
"""Pairs in one call of a reward model. From eight different prompts on it looks at answers together, and what it says
of a pair would depend on how traffic was cut into batches."""
_WINS: Final[Mapping[str, float]] = {"left": 1.0, "right": -1.0, "tie": 0.0, "abstain": 0.0}


def live_instruments(lake: Lake, config: FlywheelConfig) -> list[Instrument]:
    """Every instrument, usable or not."""
    return [_checks(lake, config), _reward(lake, config), _judge(lake, config)]


def _checks(lake: Lake, config: FlywheelConfig) -> Instrument:
    usual = usual_shape(_targets(lake, config.flow))
    if usual is None:
        return checks({}, version=VERSION)
    rule = form_rule(lambda text: fits(text, usual))
    return checks(rule, version=f"{VERSION}+{content_id('form', sorted(usual.items()))}")


def usual_shape(targets: Sequence[str]) -> Shape:
    """The JSON keys and types of most right answers; None where they are plain text, or too few to tell."""
    known, usual = common_shape(targets)
    return usual if known else None


def _targets(lake: Lake, flow: str) -> list[str]:
    """What people corrected to or liked: it favours neither of two models that are compared now."""
    found: list[str] = []
    for rows in lake.scan("examples", flow=flow, columns=["target"]):
        found += rows["target"].to_pylist()
        if len(found) >= _EXAMPLES:
            break
    return found[:_EXAMPLES]


def _reward(lake: Lake, config: FlywheelConfig) -> Instrument:
    name, identity = "reward", config.evaluation.reward_model or ""
    scorers = make_scorers(lake, config)
    absent = Instrument(name, identity, "meaning", "model", None, absent=scorers.absent.get("reward", ""))
    if "reward" not in scorers.by_kind:
        return absent
    try:
        manifest = read_manifest(lake, "reward", identity, flow=config.flow)
    except NotFoundInLakeError as error:
        return replace(absent, absent=str(error))
    learnt = frozenset(SAW["reward"][1](manifest.data))

    def score(pairs: Sequence[Mirrored]) -> list[float | None]:
        return reward_differences(scorers, pairs)

    return Instrument(name, identity, "meaning", "model", score, learnt_from=learnt, manifest=manifest.ref)


def reward_differences(scorers: Scorers, pairs: Sequence[Mirrored]) -> list[float | None]:
    """2 P(the candidate's answer is preferred) - 1; an empty answer has no reward, and is left to the rules."""
    found: list[float | None] = [0.0] * len(pairs)
    asked = [at for at, one in enumerate(pairs) if (one.pair.candidate_answer or "").strip() and one.pair.live_answer]
    for start in range(0, len(asked), _TOGETHER):
        places = asked[start : start + _TOGETHER]
        said = scorers.by_kind["reward"]([_item(pairs[at]) for at in places])
        for at, opinion in zip(places, said, strict=True):
            found[at] = None if opinion.score is None else math.tanh(opinion.score / 2)
    return found


def _item(one: Mirrored) -> Item:
    check = Check(kind="reward", expected=one.pair.live_answer)
    return Item(messages=list(one.messages), answer=one.pair.candidate_answer or "", check=check)


def _judge(lake: Lake, config: FlywheelConfig) -> Instrument:
    absent = Instrument("judge", "", "meaning", "judge", None)
    if config.judging.backend == "none":
        return replace(absent, absent=judge_runs.NO_JUDGE)
    if config.judging.backend != "endpoint":
        why = "its engine does not run all the time; serve the model at an address and set judging.backend to endpoint"
        return replace(absent, absent=why)
    version = judge_runs.configured_version(lake, config) or ""
    counts, why = judge_runs.may_gate(lake, config, version)
    if not counts:
        return replace(absent, version=version, absent=f"its word does not count: {why}")
    helped = "it is a signal of the filter" if config.quality.signals.judge.enabled else ""

    def score(pairs: Sequence[Mirrored]) -> list[float | None]:
        return _asked(lake, config, pairs)

    share = config.rollout.live.judge_share
    return Instrument("judge", version, "meaning", "judge", score, helped=helped, share=share)


def _asked(lake: Lake, config: FlywheelConfig, pairs: Sequence[Mirrored]) -> list[float | None]:
    """What the judge says, stored; a pair that it may not see, or that failed, is not measured."""
    allowed = judge_runs.purposes(lake, config.flow, _inferences(lake, config, pairs))
    asked = [
        Pair(
            one.pair.inference_id, list(one.messages), one.pair.candidate_answer or "", one.pair.live_answer,
            one.pair.candidate, one.pair.live_version, one.pair.subject,
            allowed.get(one.pair.inference_id, frozenset()),
        )
        for one in pairs
    ]  # fmt: skip
    try:
        with judge_runs.opened(lake, config) as judge:
            rows = judge_pairs(lake, config.flow, judge, asked).rows
    except FlywheelError as error:
        log.warning("the judge did not compare %d live pairs: %s", len(pairs), error)
        return [None] * len(pairs)
    said = {(row.item_id, row.left_version): _WINS[row.verdict] for row in rows}
    return [said.get((one.pair.inference_id, one.pair.candidate)) for one in pairs]


def _inferences(lake: Lake, config: FlywheelConfig, pairs: Sequence[Mirrored]) -> list[Inference]:
    """The requests behind some pairs: they say what their people agreed to."""
    ids = {one.pair.inference_id for one in pairs}
    days = {partition_date(identity, None) for identity in ids}
    columns = ("flow", "inference_id", "subject", "ts", "model_version", "messages", "consent")
    rows = pick(lake, "inferences", flow=config.flow, dates=days, column="inference_id", values=ids, columns=columns)
    return from_arrow(rows, Inference)
