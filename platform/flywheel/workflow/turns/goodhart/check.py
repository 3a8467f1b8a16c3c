"""``flywheel goodhart``: test every turn's period that has enough audit labels and was not tested yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from flywheel.config import FilterConfig, FlywheelConfig
from flywheel.errors import NotFoundInLakeError
from flywheel.lake.manifests import Manifest, lineage
from flywheel.lake.store import ObjectStore
from flywheel.lake.tables import Lake
from flywheel.quality.build import BuildResult
from flywheel.quality.filters import Columns
from flywheel.quality.goodhart.held_out import CANDIDATES_BY, optimised, used_by
from flywheel.quality.goodhart.monitor import Watched, examine
from flywheel.quality.goodhart.tables import Examination
from flywheel.quality.score import ScoreResult, SignalTable, read_signals
from flywheel.records import Record, utcnow
from flywheel.review.labels import read_labels
from flywheel.rollout import routing
from flywheel.workflow.turns.goodhart.observe import answer_rows, read_served, target_rows
from flywheel.workflow.turns.goodhart.stored import keep, look_of, looks, settled, standing
from flywheel.workflow.turns.steps import Artifact, TurnHandle, turn_ids


class GoodhartReport(Record):
    """What ``flywheel goodhart`` says: every turn's look, oldest first, and what nobody settled yet."""

    flow: str
    periods: list[Examination]
    standing: list[str]
    """Turns whose alarm waits for a person."""
    held_out: str
    remarks: list[str]
    text: str


def check_goodhart(lake: Lake, config: FlywheelConfig) -> GoodhartReport:
    """Make the looks that can be made, store them, and tell about all.

    A period without enough audit labels is shown as it is now and looked at again next time: labels come late.
    """
    turns = list(_scored(lake.store, config.flow))
    stored = {look.turn: look for look in looks(lake.store, config.flow)}
    waiting = [place for place, (turn, _) in enumerate(turns) if turn.turn_id not in stored]
    remarks: list[str] = []
    found: dict[str, Examination] = dict(stored)
    if waiting:
        watched, remarks = watch(lake, config, turns)
        closed = settled(lake.store, config.flow)
        tested = sum(bool(look.look) for look in stored.values())
        for place in waiting:
            turn = turns[place][0].turn_id
            look = examine(
                watched,
                config.quality.goodhart,
                period=place,
                turn=turn,
                at=utcnow(),
                looks=tested,
                confidence=config.evaluation.confidence,
                since=max((at for at, (one, _) in enumerate(turns) if one.turn_id in closed and at < place), default=0),
            )
            found[turn] = look if look.look is None else keep(lake.store, config.flow, look)
            tested += bool(look.look)
    periods = [found[turn.turn_id] for turn, _ in turns if turn.turn_id in found]
    return GoodhartReport(
        flow=config.flow,
        periods=periods,
        standing=[look.turn for look in standing(lake.store, config.flow)],
        held_out=config.quality.goodhart.held_out,
        remarks=remarks,
        text=periods[-1].text if periods else "no turn of this flow has scored anything yet (flywheel turn)",
    )


def watch(
    lake: Lake, config: FlywheelConfig, turns: Sequence[tuple[TurnHandle, Mapping[str, Artifact]]]
) -> tuple[Watched, list[str]]:
    """What the lake knows about the periods of these turns, oldest first, and what could not be measured."""
    latest, labels = turns[-1][1], read_labels(lake, config.flow, split="audit")
    served = read_served(lake, config, [datetime.fromisoformat(done["snapshot"]["at"]) for _, done in turns])
    answers = answer_rows(lake, config, served, labels)
    proxies, used = set(CANDIDATES_BY), list[str]()
    try:
        rows = BuildResult.model_validate(_plain(latest["candidates"])).rows()
        signals: SignalTable = read_signals(lake, config, ScoreResult.model_validate(_plain(latest["score"])))
    except (FileNotFoundError, NotFoundInLakeError) as error:
        remark = f"signals of {turns[-1][0].turn_id} cannot be read here ({error}); only answers are looked at"
        return Watched(answers, None, proxies), [remark]
    columns = Columns.of(rows, signals)
    filters, reward = _filters(lake, config, latest)
    for one in filters.values():
        proxies |= optimised(columns, one)
    used = used_by(config.quality.goodhart.held_out, columns, filters, reward)
    remarks = []
    if config.quality.goodhart.held_out not in columns.signals:
        remarks.append(
            f"quality.goodhart.held_out names '{config.quality.goodhart.held_out}', which no row has; signals: "
            f"{', '.join(sorted(columns.signals))}"
        )
    return Watched(answers, target_rows(rows, signals, served, labels), proxies, tuple(used)), remarks


def look_before_training(lake: Lake, config: FlywheelConfig, turn_id: str) -> Examination | None:
    """The look at the period of a turn that is running, before anything learns from it; None: too few labels."""
    check_goodhart(lake, config)
    return look_of(lake.store, config.flow, turn_id)


def _scored(store: ObjectStore, flow: str) -> Iterator[tuple[TurnHandle, dict[str, Artifact]]]:
    """Turns that scored their candidates, oldest first, with the artifacts that are wanted here."""
    for turn_id in turn_ids(store, flow):
        turn = TurnHandle(store, flow, turn_id)
        done = dict(_artifacts(turn, {"snapshot", "candidates", "score", "sweep", "reward", "curate"}))
        if {"snapshot", "candidates", "score"} <= done.keys():
            yield turn, done


def _artifacts(turn: TurnHandle, wanted: set[str]) -> Iterator[tuple[str, Artifact]]:
    """By the name of their step: ``05-score`` is that of ``score``, whatever its number was when it ran."""
    for key in turn.store.list(f"turns/{turn.flow}/{turn.turn_id}/"):
        number, _, name = key.rsplit("/", 1)[-1].removesuffix(".json").partition("-")
        if number.isdigit() and name in wanted:
            found = turn.read(f"{number}-{name}")
            if found is not None:
                yield name, found


def _filters(
    lake: Lake, config: FlywheelConfig, latest: Mapping[str, Artifact]
) -> tuple[dict[str, FilterConfig], str | None]:
    """Every filter behind the live model and behind the latest dataset, by the manifest that names it; reward models.

    From lineage: what was searched in a sweep counts although its dataset did not use it.
    """
    found: dict[str, FilterConfig] = {}
    reward: str | None = None
    for item in _ancestors(lake, config, latest):
        if item.kind == "reward":
            reward = item.ref
        named = {"dataset": item.data.get("filter"), "filter": item.data.get("best")}.get(item.kind)
        if named is not None:
            found[f"{named.get('version', 'filter')} ({item.ref})"] = _read_filter(named)
    if "sweep" in latest:
        found[f"{latest['sweep']['filter'].get('version', 'filter')} (this turn)"] = _read_filter(
            latest["sweep"]["filter"]
        )
    return found or {"configuration": config.quality.filter}, reward


def _ancestors(lake: Lake, config: FlywheelConfig, latest: Mapping[str, Artifact]) -> list[Manifest]:
    truth = routing.current(lake.store, config.flow)
    starts = [("model", truth.live.version)] if truth else []
    if "id" in latest.get("curate", {}):
        starts.append(("dataset", latest["curate"]["id"]))
    found: dict[str, Manifest] = {}
    for kind, name in starts:
        try:
            found |= {item.ref: item for item in lineage(lake, kind, name)}
        except NotFoundInLakeError:  # a model that was given from outside has no manifest
            continue
    return list(found.values())


def _read_filter(data: Mapping[str, Any]) -> FilterConfig:
    """As this version reads it; of a filter with fields it does not know, those that it does."""
    try:
        return FilterConfig.model_validate(data)
    except ValidationError:
        known = {key: value for key, value in data.items() if key in FilterConfig.model_fields}
        return FilterConfig.model_validate(known)


def _plain(artifact: Artifact) -> Artifact:
    return {key: value for key, value in artifact.items() if key != "seconds"}
