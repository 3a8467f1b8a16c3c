"""What is still to be measured of a signal, fixed once: a run that is killed goes on where the commits end.

Values that are in the lake under the same version of the signal, its networks and the row's own content are not
measured again, whichever turn measured them. Of the rest a plan is written before anything is measured: chunks of rows
in blocks, a commit a block. Chunks decide what is padded with what, so a resumed run stores the very same values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.config import ScoringPoolConfig
from flywheel.lake.manifests import content_id
from flywheel.lake.tables import Lake
from flywheel.quality.rows import Candidate, prompt_text
from flywheel.quality.signals.batches import chunks
from flywheel.quality.signals.networks.base import Item
from flywheel.quality.signals.stored import SCAN_ROWS, TABLE
from flywheel.records import Record

FOLDER = "scorings"


@dataclass(frozen=True)
class Measurement:
    """A signal of some rows, by one instrument."""

    signal: str
    prefix: str
    """Of the versions of its values: the signal's, and the instrument's. The row's content completes it."""
    rows: Mapping[str, Candidate]
    batch: str
    """What the rows are part of: names the plan."""

    @property
    def app(self) -> str:
        """Whose transactions the blocks are."""
        return f"measure/{content_id('plan', self.prefix, self.batch)}"

    def key(self, flow: str) -> str:
        """Where the plan lies."""
        return f"{FOLDER}/{flow}/{content_id('plan', self.prefix, self.batch)}.json"


class Plan(Record):
    """Blocks of chunks of inference ids. ``first`` is the transaction of the first block."""

    first: int
    blocks: list[list[list[str]]]


def item(row: Candidate) -> Item:
    """What a network sees of a row."""
    return {
        "inference_id": row.inference_id,
        "messages": [{"role": one.role, "content": one.content} for one in row.messages],
        "target": row.target,
        "next_message": row.evidence.next_message,
    }


def content(row: Candidate) -> str:
    """Digest of what a network sees of a row."""
    return hashlib.blake2b(json.dumps(item(row), sort_keys=True).encode(), digest_size=8).hexdigest()


def version(prefix: str, row: Candidate) -> str:
    """The version of one row's value."""
    return f"{prefix}.{content(row)}"


def known(lake: Lake, flow: str, what: Measurement) -> dict[str, float | None]:
    """Values that are stored, of the rows as they are now."""
    wanted = {row_id: version(what.prefix, row) for row_id, row in what.rows.items()}
    found: dict[str, float | None] = {}
    for piece in lake.scan(TABLE, flow=flow, columns=["inference_id", "version", "value"], rows=SCAN_ROWS):
        ours = pc.call_function("starts_with", [piece["version"]], pc.MatchSubstringOptions(f"{what.prefix}."))
        own = piece.filter(ours)
        for row in own.to_pylist():
            if wanted.get(row["inference_id"]) == row["version"]:
                found[row["inference_id"]] = row["value"]
    return found


def planned(
    lake: Lake, flow: str, what: Measurement, missing: Collection[str], pool: ScoringPoolConfig
) -> tuple[Plan, int]:
    """The plan of these rows, written now or by the run that was killed, and how many of its blocks are done."""
    stored = lake.store.get_or_none(what.key(flow))
    last = lake.last_committed(TABLE, what.app)
    if stored is None:
        draft = make_plan([what.rows[one] for one in sorted(missing)], pool, first=0 if last is None else last + 1)
        if not lake.store.put_if_absent(what.key(flow), draft.model_dump_json().encode()):
            stored = lake.store.get(what.key(flow))
        else:
            return draft, 0
    plan = Plan.model_validate_json(stored)
    return plan, 0 if last is None else max(0, last - plan.first + 1)


def make_plan(rows: Sequence[Candidate], pool: ScoringPoolConfig, *, first: int = 0) -> Plan:
    """Rows of similar length in chunks, chunks in blocks. A function of the rows alone."""
    sizes = [len(prompt_text(row.messages)) + len(row.target) for row in rows]
    cut = [[rows[index].inference_id for index in chunk] for chunk in chunks(sizes, pool.chunk_rows)]
    step = pool.block_chunks
    return Plan(first=first, blocks=[cut[start : start + step] for start in range(0, len(cut), step)])


def block_table(what: Measurement, values: Mapping[str, float | None], flow: str) -> pa.Table:
    """Rows of one block, in the order of their ids."""
    from flywheel.lake.schemas import partition_date

    ids = sorted(values)
    return pa.table(
        {
            "inference_id": pa.array(ids, pa.string()),
            "signal": pa.array([what.signal] * len(ids), pa.string()),
            "version": pa.array([version(what.prefix, what.rows[one]) for one in ids], pa.string()),
            "value": pa.array([values[one] for one in ids], pa.float64()),
            "flow": pa.array([flow] * len(ids), pa.string()),
            "date": pa.array([partition_date(one, None) for one in ids], pa.string()),
        }
    )
