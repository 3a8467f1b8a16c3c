"""``flywheel judge``: the configured judge over stored answers, its calibration, and what the gate may hear of it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from flywheel.capture.consent import consented_ids
from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.run import drawn
from flywheel.evaluation.sampling import Sampling
from flywheel.inference.batch import BatchEngine
from flywheel.judging import calibration, store
from flywheel.judging.calibration import Calibration, Mode
from flywheel.judging.drift import check_drift, drifted
from flywheel.judging.endpoint import Endpoint, is_inside
from flywheel.judging.engines import BatchJob, RunningEngine
from flywheel.judging.evidence import JudgeEvidence
from flywheel.judging.judge import EVALUATION, Judge, LanguageJudge, Pair, judge_version
from flywheel.judging.targets import human_marks, human_pairs
from flywheel.judging.winrate import win_rate
from flywheel.lake.lease import Held
from flywheel.lake.schemas import partition_date
from flywheel.lake.tables import Lake, open_lake
from flywheel.records import Consent, EvalResult, Inference, Purpose, ShadowPair, utcnow
from flywheel.registry.versions import resolve
from flywheel.review.labels import read_labels
from flywheel.review.settle import counting
from flywheel.rollout import routing
from flywheel.rollout.routing import Variant
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.cluster import connected
from flywheel.workflow.turns.engines import serving
from flywheel.workflow.turns.lease import EVALUATING, only_one

ALL: Final[frozenset[Purpose]] = frozenset(get_args(Purpose))
NO_JUDGE: Final = "there is no judge: set judging.backend and judging.model in the configuration"


def run(
    config: FlywheelConfig,
    *,
    candidate: str,
    live: str = "live",
    suite: str | None = None,
    judge: Judge | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Put the answers of two models to the judge, two orders each.

    Args:
        config: the flow and its judge.
        candidate: a version with stored answers; it is the left one.
        live: the other version, or ``live``.
        suite: stored results of this suite; None: the candidate's shadow pairs.
        judge: another judge than the configured one.
        progress: told about pairs.

    Raises:
        UsageError: no judge, no live model, or no answers of both models to the same question.
        EngineError: the judge cannot be asked.
        LeaseHeldError: something of this flow is being evaluated, or a person erased.
    """
    with only_one(config, EVALUATING) as lease:
        return _run(
            config, lease, candidate=candidate, live=live, suite=suite, judge=judge, progress=progress or Silent()
        )


def _run(
    config: FlywheelConfig,
    lease: Held,
    *,
    candidate: str,
    live: str,
    suite: str | None,
    judge: Judge | None,
    progress: Progress,
) -> dict[str, Any]:
    lake = open_lake(config)
    live = _version(lake, config, live)
    pairs = (
        _shadow_pairs(lake, config, candidate, live) if suite is None else _suite(lake, config, suite, candidate, live)
    )
    if not pairs:
        where = "in the shadow" if suite is None else f"to suite '{suite}'"
        raise UsageError(
            f"there are no answers of both {candidate} and {live} {where}; evaluate both models on it first"
        )
    with opened(lake, config, judge) as used:
        progress.start("judge", f"{len(pairs):,} pairs")
        drift = check_drift(lake, config.flow, used)

        def notify(done: int, total: int) -> None:
            lease.check()
            progress.update(done, total, "pairs")

        judged = store.judge_pairs(lake, config.flow, used, pairs, on_progress=notify)
    rate = win_rate(judged.rows, confidence=config.evaluation.confidence, seed=config.seed)
    counts, why = may_gate(lake, config, used.version)
    progress.finish(f"{judged.asked:,} pairs asked, {judged.reused:,} known")
    return {
        "judge": used.version, "candidate": candidate, "live": live, "suite": suite, "pairs": len(pairs),
        "asked": judged.asked, "reused": judged.reused, "failed": judged.failed, "dropped": dict(judged.dropped),
        "win_rate": rate.model_dump(mode="json"), "drift": drift, "may_gate": counts, "why": why,
    }  # fmt: skip


def calibrate(
    config: FlywheelConfig, *, mode: Mode = "pairwise", judge: Judge | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure the judge against people's labels of split ``tune``, attack it, and store what came out.

    Raises:
        UsageError: no judge, or no label to measure it with.
        EngineError: the judge cannot be asked.
        LeaseHeldError: something of this flow is being evaluated, or a person erased.
    """
    with only_one(config, EVALUATING) as lease:
        return _calibrate(config, lease, mode, judge, progress or Silent())


def _calibrate(
    config: FlywheelConfig, lease: Held, mode: Mode, judge: Judge | None, progress: Progress
) -> dict[str, Any]:
    lake = open_lake(config)
    labels = read_labels(lake, config.flow, split="tune")
    seen = [label.label_id for label in labels]
    rows = _inferences(lake, config.flow, [label.inference_id for label in labels])
    allowed = purposes(lake, config.flow, rows.values())
    with opened(lake, config, judge) as used:
        progress.start("calibrate", f"{used.version}, {mode}")

        def notify(done: int, total: int) -> None:
            lease.check()
            progress.update(done, total, "labels")

        if mode == "pairwise":
            pairs = human_pairs(counting(labels), rows, allowed)
            made = calibration.calibrate_pairs(
                lake, config.flow, used, pairs, config.judging, seen=seen, seed=config.seed, on_progress=notify
            )
        else:
            marks = human_marks(counting(labels), rows, allowed)
            made = calibration.calibrate_marks(
                lake, config.flow, used, marks, config.judging, seen=seen, seed=config.seed, on_progress=notify
            )
    counts, why = may_gate(lake, config, used.version, mode)
    progress.finish(why)
    return {"judge": used.version, "may_gate": counts, "why": why, **_shown(made)}


def status(config: FlywheelConfig) -> dict[str, Any]:
    """The configured judge, what it is worth in each mode, and how much it has judged. Asks nobody anything.

    Raises:
        UsageError: the judge's model is not known.
    """
    lake = open_lake(config)
    version = configured_version(lake, config)
    if version is None:
        return {"judge": None, "why": NO_JUDGE}
    modes: dict[str, Any] = {}
    for mode in get_args(Mode):
        counts, why = may_gate(lake, config, version, mode)
        found = calibration.calibrations(lake, config.flow, version, mode)
        modes[mode] = {"may_gate": counts, "why": why, **(_shown(found[-1]) if found else {})}
    return {
        "judge": version, "backend": config.judging.backend, "model": config.judging.model,
        "third_party": "third_party" in needs(config), "drift": drifted(lake, config.flow, version), "modes": modes,
        "judgements": store.count_judgements(lake, config.flow, version),
    }  # fmt: skip


def evidence(
    lake: Lake, config: FlywheelConfig, *, candidate: str, live: str, version: str | None = None
) -> JudgeEvidence | None:
    """What the gate hears of the judge: its stored word about two models on random items, and whether its marks count.

    None where there is no judge, or it has done neither.
    """
    version = version or configured_version(lake, config)
    if version is None:
        return None
    selected = _selected_cases(lake, config)
    rows = store.read_judgements(lake, config.flow, version, left=candidate, right=live)
    rows = [row for row in rows if row.item_id not in selected]
    modes: list[Mode] = [*(["pairwise"] if rows else []), *(["pointwise"] if _marks_cases(lake, config) else [])]
    words = [may_gate(lake, config, version, mode) for mode in modes]
    if not words:
        return None
    rate = win_rate(rows, confidence=config.evaluation.confidence, seed=config.seed)
    return JudgeEvidence(
        judge=version,
        counts=all(counts for counts, _ in words),
        why="; ".join(f"{mode}: {why}" for mode, (_, why) in zip(modes, words, strict=True)),
        n=rate.n if rows else None,
        rate=rate.controlled,
        interval=rate.controlled_interval,
    )


def _selected_cases(lake: Lake, config: FlywheelConfig) -> set[str]:
    """Cases of all suites but the primary one: not drawn at random (failures are the live model's own), so unfair."""
    cases = lake.read("eval_cases", flow=config.flow, columns=["case_id", "suite"])
    pairs = zip(cases["case_id"].to_pylist(), cases["suite"].to_pylist(), strict=True)
    primary = config.evaluation.primary_suite.partition("@")[0]  # a frozen suite names cases of the plain one
    return {case for case, suite in pairs if suite != primary}


def _marks_cases(lake: Lake, config: FlywheelConfig) -> bool:
    """Whether a suite that decides has cases that are marked by a judge."""
    return any(case.check.kind == "judge" for case in load_cases(lake, config.flow, config.decisive_suites()))


def may_gate(lake: Lake, config: FlywheelConfig, version: str, mode: Mode = "pairwise") -> tuple[bool, str]:
    """``calibration.may_gate`` with the labels as they are now."""
    tune = [label.label_id for label in read_labels(lake, config.flow, split="tune")]
    return calibration.may_gate(lake, config.flow, version, tune_labels=tune, policy=config.judging, mode=mode)


def calibration_labels(lake: Lake, config: FlywheelConfig) -> frozenset[str]:
    """Labels that the configured judge was calibrated with: an instrument's data, for the gate's lineage."""
    version = configured_version(lake, config)
    if version is None:
        return frozenset()
    found = [item for mode in get_args(Mode) for item in calibration.calibrations(lake, config.flow, version, mode)]
    return frozenset(label for item in found for label in item.label_ids)


def purposes(lake: Lake, flow: str, rows: Collection[Inference]) -> dict[str, frozenset[Purpose]]:
    """What each inference may be used for now."""
    now, said, every = utcnow(), lake.records("consents", Consent, flow=flow), list(rows)
    allowed = {purpose: consented_ids(every, said, purpose, now) for purpose in ALL}
    return {
        row.inference_id: frozenset(purpose for purpose in ALL if row.inference_id in allowed[purpose]) for row in every
    }


def configured_version(lake: Lake, config: FlywheelConfig) -> str | None:
    """The version of the configured judge; None without one."""
    if config.judging.backend == "none":
        return None
    variant = None if config.judging.backend == "endpoint" else _variant(lake, config)
    return _judge_version(config, variant)


@contextlib.contextmanager
def opened(lake: Lake, config: FlywheelConfig, judge: Judge | None = None) -> Iterator[Judge]:
    """The configured judge, ready to be asked: a model of our own runs, or a cluster is there for its batch.

    ``judge.as_check`` makes of it what checks of kind ``judge`` call. Another ``judge`` that is given is the one.

    Raises:
        UsageError: none is configured, or its model is not known.
        EngineError: its engine did not start.
    """
    settings = config.judging
    if judge is not None:
        yield judge
    elif settings.backend == "none":
        raise UsageError(NO_JUDGE)
    elif settings.backend == "endpoint":
        ask = Endpoint(
            settings.url or "", settings.model or "", settings.key_env, inside="third_party" not in needs(config),
            form=settings.form, max_tokens=settings.max_tokens, concurrency=settings.concurrency,
            timeout_s=settings.timeout_s, attempts=settings.attempts,
        )  # fmt: skip
        yield LanguageJudge(_judge_version(config, None), ask, settings.criterion, needs(config))
    else:
        with _own_model(lake, config) as used:
            yield used


@contextlib.contextmanager
def _own_model(lake: Lake, config: FlywheelConfig) -> Iterator[Judge]:
    settings, variant = config.judging, _variant(lake, config)
    version = _judge_version(config, variant)
    engine = config.engine.model_copy(update={"max_model_len": settings.max_model_len})
    with connected(config):
        if settings.backend == "batch":
            batch = BatchEngine(variant.folder, engine)
            ask = BatchJob(variant.version, batch, settings.form == "json_schema", settings.max_tokens)
            yield LanguageJudge(version, ask, settings.criterion)
            return
        with serving(lake, config.model_copy(update={"engine": engine}), variant):
            running = RunningEngine(
                variant.version, settings.form, settings.max_tokens, settings.concurrency, settings.timeout_s
            )
            yield LanguageJudge(version, running, settings.criterion)


def _variant(lake: Lake, config: FlywheelConfig) -> Variant:
    found = resolve(lake, config, config.judging.model or "")
    return Variant(version=found.version, folder=str(found.folder))


_BACKENDS: Final = {"batch": "batch-2"}  # the first one's prompts began twice where the tokenizer adds a begin token


def _judge_version(config: FlywheelConfig, variant: Variant | None) -> str:
    """Address and name of an endpoint's model, or our version's name, which is made of its content; and settings."""
    settings = config.judging
    model = {
        "backend": _BACKENDS.get(settings.backend, settings.backend), "url": settings.url, "form": settings.form,
        "max_tokens": settings.max_tokens,
        "model": variant.version if variant else settings.model, "revision": settings.revision,
        "dtype": config.engine.dtype if variant else None,
    }  # fmt: skip
    return judge_version(model, settings.criterion)


def needs(config: FlywheelConfig) -> frozenset[Purpose]:
    """What people must have agreed to before the configured judge may see their rows."""
    settings = config.judging
    outside = settings.url is not None and not is_inside(settings.url, settings.in_cluster_hosts)
    return frozenset({*EVALUATION, "third_party"}) if outside else EVALUATION


def _version(lake: Lake, config: FlywheelConfig, name: str) -> str:
    if name != "live":
        return name
    truth = routing.current(lake.store, config.flow)
    if truth is None:
        raise UsageError(f"The flow '{config.flow}' has no live model; name a version.")
    return truth.live.version


def _suite(lake: Lake, config: FlywheelConfig, suite: str, candidate: str, live: str) -> list[Pair]:
    """Pairs of stored answers to the suite's cases as they are now, drawn as evaluations draw them now."""
    found: dict[tuple[str, str, int], str] = {}
    usual = drawn(config, Sampling(config.evaluation.max_tokens))
    rows = lake.records("eval_results", EvalResult, flow=config.flow)
    known = (row for row in rows if row.error is None and row.drawn in {None, usual})  # None: from before it was noted
    for row in sorted(known, key=lambda row: (row.drawn is not None, row.run_id)):
        found[row.model_version, row.case_id, row.case_version] = row.answer
    cases = load_cases(lake, config.flow, [suite])
    sources = _inferences(lake, config.flow, [case.inference_id for case in cases if case.inference_id])
    allowed = purposes(lake, config.flow, sources.values())
    pairs = []
    for case in cases:
        left, right = (found.get((version, case.case_id, case.version)) for version in (candidate, live))
        if left is None or right is None:
            continue
        # A case that comes from no interaction says nothing of anybody.
        may = ALL if case.inference_id is None else allowed.get(case.inference_id, frozenset())
        pairs.append(Pair(case.case_id, case.messages, left, right, candidate, live, case.subject, may))
    return pairs


def _shadow_pairs(lake: Lake, config: FlywheelConfig, candidate: str, live: str) -> list[Pair]:
    rows = [
        row
        for row in lake.records("shadow_pairs", ShadowPair, flow=config.flow)
        if (row.candidate, row.live_version) == (candidate, live) and row.candidate_answer is not None
    ]
    asked = _inferences(lake, config.flow, [row.inference_id for row in rows])
    allowed = purposes(lake, config.flow, asked.values())
    return [
        Pair(
            row.inference_id, asked[row.inference_id].messages, row.candidate_answer or "", row.live_answer,
            candidate, live, row.subject, allowed[row.inference_id],
        )
        for row in rows
        if row.inference_id in asked
    ]  # fmt: skip


def _inferences(lake: Lake, flow: str, ids: Sequence[str]) -> Mapping[str, Inference]:
    wanted, dates = set(ids), {partition_date(identity, None) for identity in ids}
    rows = lake.records("inferences", Inference, flow=flow, dates=dates)
    return {row.inference_id: row for row in rows if row.inference_id in wanted}


def _shown(made: Calibration) -> dict[str, Any]:
    worst = made.bias.worst_constant
    return {
        "mode": made.mode, "labels": made.agreement.n, "kappa": made.agreement.kappa,
        "interval": made.agreement.interval, "abstained": made.agreement.abstained, "dropped": made.dropped,
        "bias": made.bias.model_dump(mode="json") | {
            "position_bias": made.bias.position_bias, "worst_constant": worst[0] if worst else None,
        },
    }  # fmt: skip
