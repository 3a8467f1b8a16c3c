"""Why is this row in a dataset, or why not? Numbers, bounds, reasons and ids; never what anybody said.

Everything is read again from what the dataset left: its manifest (rows, filter, versions of tables and signals), the
drops beside it, the signals, and the interaction with its reactions as they were then.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Literal

import pyarrow.compute as pc
from pydantic import Field

from flywheel.capture.consent import consented_ids
from flywheel.config import FilterConfig, FlywheelConfig
from flywheel.errors import NotFoundInLakeError
from flywheel.lake.manifests import Manifest, list_manifests
from flywheel.lake.schemas import from_arrow, partition_date, uuid7_time
from flywheel.lake.tables import Lake
from flywheel.quality.candidates import build_candidates
from flywheel.quality.filters_trace import Trace, trace
from flywheel.quality.rows import Candidate, Drop, Exclusions
from flywheel.quality.trust.apply import Suspect
from flywheel.records import Consent, Feedback, Inference, Record, utcnow
from flywheel.text.hashing import unit_interval
from flywheel.workflow.curation.stages import Stage, stages
from flywheel.workflow.turns.steps import TurnHandle, turn_ids
from flywheel.workflow.turns.turn import step_key

SHOWN = 10
"""Rows that lost against this one and are named; the rest are counted."""


class Explanation(Record):
    """All that is known about one row and one dataset."""

    inference_id: str
    example_id: str | None = Field(description="its example in the dataset; None: it is not in it")
    flow: str
    dataset: str
    turn: str | None
    filter: str
    verdict: Literal["kept", "dropped", "not seen"]
    reason: str | None = None
    detail: str | None = None
    consent: bool = Field(description="whether the person agrees to training now; if not, no signal is shown")
    origin: Literal["correction", "liked", "taught"] | None = None
    stages: list[Stage] = Field(default_factory=list[Stage])
    signals: dict[str, float | None] = Field(default_factory=dict)
    trace: Trace | None = None
    draws: dict[str, float] = Field(
        default_factory=dict, description="place in [0, 1) of the hash draw; the lowest are repeated"
    )
    quarantined: list[str] = Field(
        default_factory=list[str], description="why reactions to it are in quarantine, one entry each"
    )
    instead_of: list[str] = Field(default_factory=list[str], description="rows that left as repeating this one")
    instead_of_count: int = 0
    used_by: list[str] = Field(default_factory=list[str], description="datasets, reward models, filters, models")


def explain(
    lake: Lake, config: FlywheelConfig, name: str, *, dataset: str | None = None, turn: str | None = None
) -> Explanation:
    """Explain an inference or an example.

    Args:
        lake: the tables, manifests and drops.
        config: names the flow.
        name: id of an inference, or of an example (``ex-…``).
        dataset: which dataset; default: the newest that saw the row, else the newest.
        turn: the dataset of this turn instead.

    Raises:
        NotFoundInLakeError: unknown row, dataset or turn, or a person's row that was erased.
    """
    datasets = list_manifests(lake, "dataset", config.flow)
    inference_id = _inference_id(name, datasets)
    row = _inference(lake, config.flow, inference_id, name)
    chosen, drop, example = _dataset(lake, config, datasets, inference_id, dataset=dataset, turn=turn)
    used = FilterConfig.model_validate(chosen.data["filter"])
    consent = bool(consented_ids([row], lake.records("consents", Consent), "training", utcnow()))
    losers = [one.inference_id for one in _drops(lake, chosen, inference_id) if one.detail == inference_id]
    seen = example is not None or drop is not None
    found = Explanation(
        inference_id=inference_id, example_id=example, flow=config.flow, dataset=chosen.id,
        turn=chosen.data.get("first_turn"), filter=used.version, consent=consent,
        verdict="kept" if example else "dropped" if drop else "not seen",
        reason=drop.reason if drop else None, detail=drop.detail if drop else None,
        stages=stages(drop, used) if seen else [],
        quarantined=[f"{one.reason}: {one.detail}" for one in _suspects(lake, chosen, inference_id)],
        instead_of=losers[:SHOWN], instead_of_count=len(losers),
        used_by=_used_by(lake, config.flow, inference_id, datasets),
    )  # fmt: skip
    candidate = _candidate(lake, chosen, row) if consent and seen else None
    return found if candidate is None else found.model_copy(update=_measured(lake, chosen, candidate, used))


def _inference_id(name: str, datasets: Sequence[Manifest]) -> str:
    """The interaction behind an example; any other name is taken for an interaction's."""
    if not name.startswith("ex-"):
        return name
    for manifest in reversed(datasets):
        for example, inferences, *_ in manifest.data["rows"]:
            if example == name:
                return str(inferences[0])
    raise NotFoundInLakeError(
        f"No dataset of this flow has the example '{name}'. `flywheel export DATASET --out rows.jsonl` lists examples."
    )


def _days(inference_id: str) -> list[str] | None:
    """The partition of whatever belongs to an interaction; ids from elsewhere do not tell it: all are read then."""
    return [partition_date(inference_id, None)] if uuid7_time(inference_id) else None


def _inference(lake: Lake, flow: str, inference_id: str, name: str) -> Inference:
    table = lake.read("inferences", flow=flow, dates=_days(inference_id))
    rows = from_arrow(table.filter(pc.field("inference_id") == inference_id), Inference)
    if rows:
        return rows[0]
    raise NotFoundInLakeError(
        f"The flow '{flow}' has no interaction '{name}': it was never captured, its batch is not ingested yet, or it "
        "was erased with its person. Ids are in the answers' `id` and in the table inferences."
    )


def _dataset(
    lake: Lake, config: FlywheelConfig, datasets: Sequence[Manifest], inference_id: str, *, dataset: str | None,
    turn: str | None,
) -> tuple[Manifest, Drop | None, str | None]:  # fmt: skip
    """The dataset that is asked about, and what became of the row in it: its drop, or its example."""
    if turn is not None:
        dataset = _of_turn(lake, config.flow, turn)
    if not datasets:
        raise NotFoundInLakeError(f"The flow '{config.flow}' has no dataset yet; make one with: flywheel turn")
    known = {manifest.id: manifest for manifest in datasets}
    if dataset is not None and dataset not in known:
        near = difflib.get_close_matches(dataset, known, n=1, cutoff=0.4)
        raise NotFoundInLakeError(f"The flow has no dataset '{dataset}'; did you mean {near[0] if near else '-'}?")
    asked = [known[dataset]] if dataset is not None else list(reversed(datasets))
    fates = ((manifest, *_fate(lake, manifest, inference_id)) for manifest in asked)
    return next((fate for fate in fates if fate[1] or fate[2]), (asked[0], None, None))


def _of_turn(lake: Lake, flow: str, turn: str) -> str:
    curated = TurnHandle(lake.store, flow, turn).read(step_key("curate"))
    if curated is None:
        known = turn_ids(lake.store, flow)
        why = (
            "has curated nothing yet" if turn in known else f"does not exist; turns: {', '.join(known[-5:]) or 'none'}"
        )
        raise NotFoundInLakeError(f"'{turn}' {why}.")
    return str(curated["id"])


def _fate(lake: Lake, manifest: Manifest, inference_id: str) -> tuple[Drop | None, str | None]:
    for example, inferences, *_ in manifest.data["rows"]:
        if inference_id in inferences:
            return None, str(example)
    own = (drop for drop in _drops(lake, manifest, inference_id) if drop.inference_id == inference_id)
    return next(own, None), None


def _drops(lake: Lake, manifest: Manifest, inference_id: str) -> Iterator[Drop]:
    """Drops that name an interaction, as their own or as the row that stayed; only their lines are parsed."""
    wanted = inference_id.encode()
    stored = lake.store.get_or_none(manifest.data["drops"]) or b""
    return (Drop.model_validate_json(line) for line in stored.splitlines() if wanted in line)


def _candidate(lake: Lake, manifest: Manifest, row: Inference) -> Candidate | None:
    """What the dataset's join made of the row; None where it made nothing of it."""
    gone = {one.feedback_id for one in _suspects(lake, manifest, row.inference_id)}
    said = [one for one in _feedback(lake, manifest, row) if one.feedback_id not in gone]
    rows, _ = build_candidates([row], said, consented={row.inference_id}, excluded=Exclusions())
    return rows[0] if rows else None


def _suspects(lake: Lake, manifest: Manifest, inference_id: str) -> list[Suspect]:
    """Reactions to an interaction that the dataset held in quarantine."""
    key, wanted = manifest.data.get("quarantine"), inference_id.encode()
    stored = lake.store.get_or_none(key) if key else None
    found = (Suspect.model_validate_json(line) for line in (stored or b"").splitlines() if wanted in line)
    return [one for one in found if one.inference_id == inference_id]


def _feedback(lake: Lake, manifest: Manifest, row: Inference) -> list[Feedback]:
    for at in (manifest.data["snapshot"].get("feedback"), None):
        try:
            table = lake.read("feedback", flow=manifest.flow, dates=_days(row.inference_id), at=at)
        except NotFoundInLakeError:  # rows of that version were erased since: as it is now, then
            continue
        return from_arrow(table.filter(pc.field("inference_id") == row.inference_id), Feedback)
    return []


def _measured(lake: Lake, manifest: Manifest, row: Candidate, used: FilterConfig) -> dict[str, object]:
    table = lake.read(
        "signals", flow=manifest.flow, dates=_days(row.inference_id),
        columns=["inference_id", "signal", "version", "value"],
    )  # fmt: skip
    versions = set(manifest.data.get("signal_versions", {}).values()) or {manifest.data["signals"]}
    wanted = (pc.field("inference_id") == row.inference_id) & pc.field("version").isin(sorted(versions))
    signals = {one["signal"]: one["value"] for one in table.filter(wanted).to_pylist()}
    seed = str(manifest.seed)
    draw = {"liked": "replay", "taught": "taught"}.get(row.origin)
    drawn = {row.origin: unit_interval(seed, draw, row.inference_id)} if draw else {}
    older = {"older": unit_interval(seed, "older", row.inference_id)} if used.older_per_new is not None else {}
    return {
        "origin": row.origin,
        "signals": dict(sorted(signals.items())),
        "trace": trace(signals, used, correction=row.origin == "correction") if signals else None,
        "draws": {**drawn, **older},
    }


def _used_by(lake: Lake, flow: str, inference_id: str, datasets: Sequence[Manifest]) -> list[str]:
    """References of the artifacts that were made of the row, and of the models made of those."""
    made = [item.ref for item in datasets if any(inference_id in row[1] for row in item.data["rows"])]
    rewards = list_manifests(lake, "reward", flow)
    made += [item.ref for item in rewards if any(inference_id in fold for fold in item.data["rows"])]
    filters = list_manifests(lake, "filter", flow)
    made += [item.ref for item in filters if inference_id in item.data.get("inferences", [])]
    parents = set(made)
    return made + [item.ref for item in list_manifests(lake, "model", flow) if parents & set(item.parents)]
