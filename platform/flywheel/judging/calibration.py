"""What a judge's word is worth: its agreement with people, and whether it may gate now.

A calibration is a manifest (kind ``judge_calibration``) of one version of a judge in one mode, with the labels it used:
they are an instrument's data, so lineages and erasures see them. It holds until a label of split ``tune`` comes or
goes, or the judge drifts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, Final, Literal

import numpy as np

from flywheel.config import JudgingConfig
from flywheel.errors import UsageError
from flywheel.judging.attacks import BiasReport, Known, attack, broken
from flywheel.judging.drift import check_drift, drifted
from flywheel.judging.judge import ByMarks, Judge, Notify
from flywheel.judging.store import Judged, judge_pairs, judgement_id, missing_purpose
from flywheel.judging.targets import HumanMark, HumanPair
from flywheel.lake.manifests import Manifest, content_id, list_manifests, write_manifest
from flywheel.lake.tables import Lake
from flywheel.records import Record
from flywheel.statistics.agreement import cohen_kappa

Mode = Literal["pairwise", "pointwise"]
KIND: Final = "judge_calibration"
RIGHT: Final = 0.5
"""A mark from here on says that an answer is right."""
_RESAMPLES: Final = 1_000


class Agreement(Record):
    """Cohen's kappa of a judge with people.

    An abstention counts as "tie" (pairs) or "wrong" (marks): it agrees with nobody who took a side.
    """

    n: int
    kappa: float | None
    interval: tuple[float, float] | None
    abstained: int


class Calibration(Record):
    """One judge, one mode, measured once."""

    judge: str
    mode: Mode
    agreement: Agreement
    bias: BiasReport
    label_ids: list[str]
    tune_labels: list[str]
    dropped: dict[str, int]


def calibrate_pairs(
    lake: Lake, flow: str, judge: Judge, human: Sequence[HumanPair], policy: JudgingConfig,
    *, seen: Sequence[str], seed: int = 0, on_progress: Notify | None = None,
) -> Calibration:  # fmt: skip
    """Measure a comparing judge against people's pairs, attack it, and store both.

    Its judgements are rows like all others, so a killed calibration goes on where it was, and new labels cost new
    questions only.

    Args:
        lake: where labels and judgements are.
        flow: whose.
        judge: who is measured.
        human: what people said (``targets.human_pairs``).
        policy: how many items are attacked.
        seen: ids of all labels of split tune that were looked at; others make the calibration stale.
        seed: of the interval.
        on_progress: told about pairs.

    Raises:
        UsageError: no label says which of two answers is better.
        EngineError: the judge could not be asked.
    """
    check_drift(lake, flow, judge)
    judged = judge_pairs(lake, flow, judge, [item.pair for item in human], on_progress=on_progress)
    verdicts = {row.judgement_id: row.verdict for row in judged.rows}
    used = [(item, verdicts.get(judgement_id(flow, judge.version, item.pair))) for item in human]
    said = [(item, verdict) for item, verdict in used if verdict is not None]
    if not said:
        raise UsageError(_nothing("compare or correct", judged))
    agreement = agree(
        [item.preferred for item, _ in said],
        ["tie" if verdict == "abstain" else verdict for _, verdict in said],
        [item.pair.subject or item.pair.item_id for item, _ in said],
        abstained=sum(verdict == "abstain" for _, verdict in said),
        seed=seed,
    )
    bias = attack(judge, [_known(item) for item, _ in said if item.preferred != "tie"], limit=policy.attack_items)
    made = Calibration(
        judge=judge.version, mode="pairwise", agreement=agreement, bias=bias, dropped=_lost(judged),
        label_ids=sorted({item.label_id for item, _ in said}), tune_labels=sorted(seen),
    )  # fmt: skip
    return _store(lake, flow, made, seed)


def calibrate_marks(
    lake: Lake, flow: str, judge: Judge, human: Sequence[HumanMark], policy: JudgingConfig,
    *, seen: Sequence[str], seed: int = 0, on_progress: Notify | None = None,
) -> Calibration:  # fmt: skip
    """The same for a marking judge and people's accept and reject.

    It is attacked on answers that people called right, each beside a right answer to something else.

    Raises:
        UsageError: no label says whether an answer is right.
        EngineError: the judge could not be asked.
    """
    check_drift(lake, flow, judge)
    judged = Judged()
    allowed = []
    for item in human:
        if missing := missing_purpose(item.item, judge.needs):
            judged.dropped[f"no_consent:{missing}"] += 1
        else:
            allowed.append(item)
    if not allowed:
        raise UsageError(_nothing("accept, reject or correct", judged))
    scores = judge.score([item.answer for item in allowed], on_progress)
    said = [(item, score) for item, score in zip(allowed, scores, strict=True) if not score.failed]
    judged.failed = len(allowed) - len(said)
    if not said:
        raise UsageError(_nothing("accept, reject or correct", judged))
    agreement = agree(
        [item.right for item, _ in said],
        [score.value is not None and score.value >= RIGHT for _, score in said],
        [item.item.subject or item.item.item_id for item, _ in said],
        abstained=sum(score.value is None for _, score in said),
        seed=seed,
    )
    bias = attack(ByMarks(judge), _contrasts([item for item, _ in said]), limit=policy.attack_items)
    made = Calibration(
        judge=judge.version, mode="pointwise", agreement=agreement, bias=bias, dropped=_lost(judged),
        label_ids=sorted({item.label_id for item, _ in said}), tune_labels=sorted(seen),
    )  # fmt: skip
    return _store(lake, flow, made, seed)


def agree(
    people: Sequence[Any], judge: Sequence[Any], clusters: Sequence[str], *, abstained: int, seed: int = 0
) -> Agreement:
    """Kappa with a 95 % percentile bootstrap interval over subjects. Pure.

    Kappa is None where it is not defined: one of both says the same of everything.
    """
    left, right = np.array(people), np.array(judge)
    groups: dict[str, list[int]] = {}
    for place, label in enumerate(clusters):
        groups.setdefault(label, []).append(place)
    members = [np.array(places) for places in groups.values()]
    rng, drawn = np.random.default_rng(seed), list[float]()
    for _ in range(_RESAMPLES if len(members) > 1 else 0):
        chosen = np.concatenate([members[at] for at in rng.integers(0, len(members), len(members))])
        if (value := _kappa(left[chosen], right[chosen])) is not None:
            drawn.append(value)
    interval = (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))) if drawn else None
    return Agreement(n=len(left), kappa=_kappa(left, right), interval=interval, abstained=abstained)


def calibrations(lake: Lake, flow: str, version: str, mode: Mode = "pairwise") -> list[Calibration]:
    """All calibrations of a version of a judge, oldest first."""
    found = [Calibration.model_validate(item.data) for item in list_manifests(lake, KIND, flow)]
    return [item for item in found if (item.judge, item.mode) == (version, mode)]


def may_gate(
    lake: Lake,
    flow: str,
    judge_version: str,
    *,
    tune_labels: Collection[str],
    policy: JudgingConfig | None = None,
    mode: Mode = "pairwise",
) -> tuple[bool, str]:
    """Whether a judge's word counts in the gate now, and why (not).

    It must be calibrated on enough labels with a kappa of at least ``min_kappa``, the labels must be those of the
    calibration still, the judge must not have drifted, and no attack may have carried further than the limits.

    Args:
        lake: where calibrations are.
        flow: whose labels.
        judge_version: which judge.
        tune_labels: ids of the labels of split tune that hold now.
        policy: the limits.
        mode: comparing or marking.
    """
    policy = policy or JudgingConfig()
    found = calibrations(lake, flow, judge_version, mode)
    if not found:
        return False, f"{judge_version} was never calibrated ({mode}); run `flywheel judge calibrate`"
    if reason := drifted(lake, flow, judge_version):
        return False, f"{reason}; set judging.revision to a new value, which makes it a new judge, and calibrate that"
    current = [item for item in found if item.tune_labels == sorted(tune_labels)]
    if not current:
        return False, "the tune labels are not those of its calibration any more; run `flywheel judge calibrate`"
    return worth(current[-1], policy)


def worth(found: Calibration, policy: JudgingConfig) -> tuple[bool, str]:
    """``may_gate`` of a calibration that is not stale. Pure."""
    agreement = found.agreement
    if agreement.n < policy.min_labels:
        return False, f"it was calibrated on {agreement.n} labels; at least {policy.min_labels} are needed"
    if agreement.kappa is None or agreement.kappa < policy.min_kappa:
        value = "undefined" if agreement.kappa is None else f"{agreement.kappa:.2f}"
        return False, f"its kappa with people is {value} on {agreement.n} labels; at least {policy.min_kappa} is needed"
    if reasons := broken(found.bias, policy):
        return False, f"it can be fooled: {'; '.join(reasons)}"
    low = f", interval from {agreement.interval[0]:.2f}" if agreement.interval else ""
    return True, f"its kappa with people is {agreement.kappa:.2f} on {agreement.n} labels{low}"


def _store(lake: Lake, flow: str, made: Calibration, seed: int) -> Calibration:
    from flywheel import __version__

    write_manifest(lake, Manifest(
        kind=KIND, id=content_id("calibration", made), flow=flow, code_version=__version__, config_hash=made.judge,
        seed=seed, data=made.model_dump(mode="json"),
    ))  # fmt: skip
    return made


def _lost(judged: Judged) -> dict[str, int]:
    return dict(judged.dropped) | ({"judge_failed": judged.failed} if judged.failed else {})


def _kappa(left: np.ndarray, right: np.ndarray) -> float | None:
    if len(np.unique(left)) < 2 and np.array_equal(left, right):
        return None
    value = cohen_kappa(left.tolist(), right.tolist())
    return float(value) if math.isfinite(value) else None


def _known(item: HumanPair) -> Known:
    pair = item.pair
    better, worse = (pair.left, pair.right) if item.preferred == "left" else (pair.right, pair.left)
    return Known(pair.messages, better, worse)


def _contrasts(marks: Sequence[HumanMark]) -> list[Known]:
    """Right answers, each with one that is right for something else."""
    right = [item.item for item in marks if item.right]
    found = []
    for place, item in enumerate(right):
        others = (right[(place + step) % len(right)].left for step in range(1, len(right)))
        worse = next((text for text in others if text != item.left), None)
        if worse is not None:
            found.append(Known(item.messages, item.left, worse))
    return found


def _nothing(kinds: str, judged: Judged) -> str:
    lost = ", ".join(f"{reason} ({count})" for reason, count in judged.dropped.items())
    why = f" that the judge may see ({lost})" if lost else ""
    return f"there is no label of split tune and kind {kinds}{why}; label some with `flywheel label`"
