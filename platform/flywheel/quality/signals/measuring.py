"""Networks over rows: a Ray Data actor pool for each signal, a commit for each block of its plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flywheel.config import FlywheelConfig, ScoringPoolConfig
from flywheel.lake.tables import Lake
from flywheel.quality.rows import Candidate
from flywheel.quality.signals import SIGNALS
from flywheel.quality.signals.networks.base import Item
from flywheel.quality.signals.networks.instruments import Instrument, Loaded
from flywheel.quality.signals.plan import Measurement, block_table, item, known, planned
from flywheel.quality.signals.stored import TABLE
from flywheel.telemetry import Progress

Measure = Callable[[Sequence[Sequence[Item]]], Iterator[tuple[int, Mapping[str, float | None]]]]
"""Chunks -> (place of the chunk, values by inference id), in whatever order they get done. Rows without an entry
were not measured, and are asked again by the next scoring."""


def measurement(signal: str, identity: str, rows: Sequence[Candidate], batch: str) -> Measurement:
    """A signal of some rows by what has this identity."""
    prefix = f"{signal}-{SIGNALS[signal].version}.{identity}"
    return Measurement(signal, prefix, {row.inference_id: row for row in rows}, batch)


def measured_by(
    lake: Lake, config: FlywheelConfig, instrument: Instrument, rows: Sequence[Candidate], *, batch: str,
    progress: Progress,
) -> dict[str, float]:  # fmt: skip
    """Values by inference id, stored ones first; those that were measured as None are left out."""
    pool = config.quality.signals.pool
    what = measurement(instrument.signal, instrument.identity, rows, batch)
    return measure(lake, config, what, lambda work: through_pool(instrument, work, pool), progress=progress)


def measure(
    lake: Lake, config: FlywheelConfig, what: Measurement, ask: Measure, *, progress: Progress
) -> dict[str, float]:
    """What the lake has, and of the rest what ``ask`` says; see ``plan``. A kill costs the blocks under way."""
    found = known(lake, config.flow, what)
    missing = what.rows.keys() - found.keys()
    if missing:
        plan, done = planned(lake, config.flow, what, missing, config.quality.signals.pool)
        for values in _blocks(lake, config.flow, what, ask, blocks=plan.blocks[done:], first=plan.first + done):
            found.update(values)
            progress.update(len(found), len(what.rows), what.signal)
        if done:  # blocks of the run that was killed
            found = known(lake, config.flow, what)
        lake.store.delete([what.key(config.flow)])
    return {row: value for row, value in found.items() if value is not None}


def _blocks(
    lake: Lake, flow: str, what: Measurement, ask: Measure, *, blocks: list[list[list[str]]], first: int
) -> Iterator[Mapping[str, float | None]]:
    """Commit block after block, in order: the number of the last transaction says how many are done."""
    owner = [number for number, block in enumerate(blocks) for _ in block]
    # A plan may be older than what may be looked at now (a consent was withdrawn): those rows are left out.
    work = [[item(what.rows[one]) for one in chunk if one in what.rows] for block in blocks for chunk in block]
    left = [len(block) for block in blocks]
    values: list[dict[str, float | None]] = [{} for _ in blocks]
    committed = 0
    for place, of_chunk in ask(work) if work else ():
        values[owner[place]].update(of_chunk)
        left[owner[place]] -= 1
        while committed < len(blocks) and left[committed] == 0:
            data = block_table(what, values[committed], flow)
            lake.append(TABLE, data, app=what.app, version=first + committed, flow=flow)
            yield values[committed]
            values[committed] = {}
            committed += 1


def through_pool(
    instrument: Instrument, work: Sequence[Sequence[Item]], pool: ScoringPoolConfig
) -> Iterator[tuple[int, Mapping[str, float | None]]]:
    """Chunks through actors that hold the instrument; each has a chunk in hand and one waiting."""
    import ray

    rows = [{"place": place, "items": list(chunk)} for place, chunk in enumerate(work)]
    actors = min(pool.actors, len(rows))
    data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        MeasuringActor,  # pyright: ignore[reportArgumentType]  (Ray types functions only)
        fn_constructor_args=(instrument,),
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
        num_cpus=pool.num_cpus,
        num_gpus=pool.num_gpus or None,
    )
    for row in data.iter_rows():
        yield int(row["place"]), dict(zip(row["ids"], (_value(one) for one in row["values"]), strict=True))


def _value(carried: float) -> float | None:
    return None if math.isnan(carried) else float(carried)


class MeasuringActor:
    """Holds an instrument's networks and measures one chunk a call."""

    def __init__(self, instrument: Instrument) -> None:
        """Load the networks."""
        from flywheel.telemetry import apply_environment

        apply_environment()
        self._measure: Loaded = instrument.open()

    def __call__(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """Values of the chunk's items, in order."""
        items = list(chunk["items"])
        ids = [one["inference_id"] for one in items]
        # NaN, not None: a chunk of nothing but nulls would have a type of its own among the blocks.
        values = [math.nan if value is None else value for value in self._measure(items)]
        return {"place": chunk["place"], "ids": ids, "values": values}
