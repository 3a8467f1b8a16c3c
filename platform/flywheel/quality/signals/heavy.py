"""The signals that cost something, each measured once: networks in actor pools, the judge, the engagement network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from flywheel.config import FlywheelConfig
from flywheel.errors import EngineError, UsageError
from flywheel.judging.judge import Answer, Judge
from flywheel.lake.tables import Lake
from flywheel.quality.folds import Folds
from flywheel.quality.rows import Candidate
from flywheel.quality.signals.measuring import measure, measured_by, measurement
from flywheel.quality.signals.networks.base import Item
from flywheel.quality.signals.networks.instruments import Instrument
from flywheel.records import Message
from flywheel.telemetry import Progress
from flywheel.text.hashing import stable_hash

PREDICTED = "engagement_predicted"
MARK = "judge"

HeavyValues = dict[str, dict[str, float]]
"""``{signal: {inference_id: value}}``"""


@dataclass(frozen=True)
class Marker:
    """The judge, not yet started, and the rows that it may see by their people's consent now."""

    version: str
    opened: Callable[[], AbstractContextManager[Judge]]
    allowed: frozenset[str]


@dataclass(frozen=True)
class Instruments:
    """What is there to measure with; their identities are part of the values' versions."""

    networks: Mapping[str, Instrument]
    marker: Marker | None = None


def heavy_values(
    lake: Lake, config: FlywheelConfig, rows: Sequence[Candidate], *, wanted: Collection[str], folds: Folds,
    instruments: Instruments, batch: str, progress: Progress,
) -> HeavyValues:  # fmt: skip
    """Values of those of the wanted signals that networks or the judge measure."""
    found: HeavyValues = {}
    for name, instrument in instruments.networks.items():
        if name in wanted:
            found[name] = measured_by(lake, config, instrument, rows, batch=batch, progress=progress)
    if MARK in wanted:
        found[MARK] = _marked(lake, config, rows, instruments.marker, batch=batch, progress=progress)
    if PREDICTED in wanted:
        found[PREDICTED] = _predicted(config, rows, folds)
    return found


def of_row(values: HeavyValues, inference_id: str) -> dict[str, float]:
    """The values of one row."""
    return {name: of_signal[inference_id] for name, of_signal in values.items() if inference_id in of_signal}


def _predicted(config: FlywheelConfig, rows: Sequence[Candidate], folds: Folds) -> dict[str, float]:
    """In a Ray task: torch's settings of one thread and fixed seeds stay out of the driver."""
    import ray

    from flywheel.quality.signals.engagement_network import cross_fit

    remote = ray.remote(num_cpus=config.quality.signals.pool.num_cpus, max_retries=2)(cross_fit)  # type: ignore[call-overload]
    return ray.get(remote.remote(list(rows), folds, config.quality.signals.engagement, config.seed))


def _marked(
    lake: Lake, config: FlywheelConfig, rows: Sequence[Candidate], marker: Marker | None, *, batch: str,
    progress: Progress,
) -> dict[str, float]:  # fmt: skip
    if marker is None:
        raise UsageError(
            "quality.signals.judge is enabled, and no judge was given: configure `judging`, or switch it off"
        )
    allowed = [row for row in rows if row.inference_id in marker.allowed]
    drawn = sorted(
        allowed, key=lambda row: (stable_hash("judge", str(config.seed), row.inference_id), row.inference_id)
    )
    what = measurement(MARK, marker.version, drawn[: config.quality.signals.judge.max_rows], batch)
    return measure(lake, config, what, lambda work: _marks(marker, work), progress=progress)


def _marks(marker: Marker, work: Sequence[Sequence[Item]]) -> Iterator[tuple[int, Mapping[str, float | None]]]:
    """Marks by chunk. What the judge could not be asked has no entry; what it did not answer in its form is None.

    Raises:
        EngineError: nothing of a chunk was answered.
    """
    with marker.opened() as judge:
        for place, chunk in enumerate(work):
            answers = [Answer([Message.model_validate(one) for one in row["messages"]], row["target"]) for row in chunk]
            marks = judge.score(answers) if answers else []
            if marks and all(mark.failed for mark in marks):
                raise EngineError(
                    f"the judge answered none of {len(marks)} questions ({marks[0].error}); look at its log, then run "
                    "this again: marks so far are kept"
                )
            yield (
                place,
                {row["inference_id"]: mark.value for row, mark in zip(chunk, marks, strict=True) if not mark.failed},
            )
