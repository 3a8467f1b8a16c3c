"""Export: a table or a dataset -> a file, without the rows that people do not agree to now.

A row goes out if every interaction that it comes from may be used for the purpose at this moment (a reaction to a
session comes from all of that session), and if whoever reacted to somebody else's has not withdrawn; rows that come
from none (imported cases, decisions, manifests) always do.
What is gone from the lake is not in the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import Field

from flywheel.capture.consent import consented_ids, withdrawn
from flywheel.config import FlywheelConfig
from flywheel.errors import UsageError
from flywheel.lake.manifests import Manifest, list_manifests
from flywheel.lake.schemas import SCHEMAS, partition_date
from flywheel.lake.tables import Lake
from flywheel.records import Consent, Purpose, Record, utcnow
from flywheel.telemetry import Progress, Silent
from flywheel.workflow.exchange.export_file import ExportFormat, open_export

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLES: Final = "examples"
_FOR_EVALUATION: Final = frozenset({"labels", "eval_cases", "eval_results", "shadow_pairs", "judgements"})
"""Tables whose rows are there to judge with; the others' are there to learn from."""
_STATED: Final = ("inference_id", "subject", "ts", "consent")
"""Columns that consent is decided by."""
_DAYS: Final = 16
"""Days of interactions whose consents are kept at hand."""


class ExportReport(Record):
    """What an export wrote, and what it left out."""

    name: str
    kind: str = Field(description="table or dataset")
    flow: str
    format: ExportFormat
    purpose: Purpose
    path: str
    rows: int
    bytes: int
    not_consented: int = Field(description="rows left out because their people do not agree to the purpose now")
    without_answer: int = Field(default=0, description="chat only: rows without text")
    gone: int = Field(default=0, description="rows of the dataset that are no longer in the lake")

    def summary(self) -> str:
        """One line for a person."""
        parts = [f"{self.name}: {self.rows:,} rows to {self.path} ({self.format})"]
        if self.not_consented:
            parts.append(f"{self.not_consented:,} left out without consent to {self.purpose}")
        if self.without_answer:
            parts.append(f"{self.without_answer:,} left out without text")
        if self.gone:
            parts.append(f"{self.gone:,} are gone from the lake")
        return "; ".join(parts)


def export(
    lake: Lake,
    config: FlywheelConfig,
    name: str,
    *,
    out: Path,
    format_: str | None = None,
    flow: str | None = None,
    purpose: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a table, or the examples of a dataset, to a file; memory is bounded by a few thousand rows.

    Args:
        lake: where the rows are.
        config: its flow is the default.
        name: a table of the lake or the id of a dataset of the flow.
        out: the file; it appears whole or not at all.
        format_: parquet, jsonl or chat; default: by the file's suffix, else jsonl.
        flow: whose rows.
        purpose: what people must agree to; default: evaluation for what judges, training for the rest.
        force: replace a file that is there.
        progress: is told of rows.

    Raises:
        UsageError: there is no such table, dataset, format or purpose, or the file cannot be written.
    """
    progress = progress or Silent()
    flow = flow or config.flow
    dataset = None if name in SCHEMAS else _dataset(lake, name, flow)
    table = EXAMPLES if dataset else name
    chosen: ExportFormat = _one_of("format", format_ or _by_suffix(out), get_args(ExportFormat))
    wanted: Purpose = _one_of(
        "purpose", purpose or ("evaluation" if table in _FOR_EVALUATION else "training"), get_args(Purpose)
    )
    consents = Consents(lake, flow, wanted)
    progress.start("export", f"{name} of {flow}")
    seen = written = refused = 0
    with open_export(out, table, chosen, force=force) as writer:
        for rows in _chosen(lake, table, flow, dataset):
            allowed = rows.filter(consents.mask(table, rows))
            seen, refused = seen + len(rows), refused + len(rows) - len(allowed)
            written += writer.write(allowed)
            progress.update(seen, None, f"{seen:,} rows")
    report = ExportReport(
        name=name, kind="dataset" if dataset else "table", flow=flow, format=chosen, purpose=wanted,
        path=str(out), rows=written, bytes=out.stat().st_size, not_consented=refused,
        without_answer=seen - refused - written, gone=len(_ids(dataset)) - seen if dataset else 0,
    )  # fmt: skip
    progress.finish(report.summary())
    return report


class Consents:
    """Which rows of one flow may be used for a purpose now. A day's interactions are read when they are asked for."""

    def __init__(self, lake: Lake, flow: str, purpose: Purpose) -> None:
        self._lake, self._flow = lake, flow
        self._purpose: Purpose = purpose
        self._statements, self._now = lake.records("consents", Consent), utcnow()
        self._silent = withdrawn(self._statements, purpose, self._now)
        self._day = lru_cache(maxsize=_DAYS)(self._read_day)

    def mask(self, table: str, rows: pa.Table) -> pa.BooleanArray:
        """True for every row all of whose interactions may be used."""
        import pyarrow as pa

        sources = self._sources(table, rows)
        if sources is None:
            return pa.array([True] * len(rows))
        askers = self._askers({one for source in sources for one in source})
        if table == "feedback" and not all(rows["inference_id"].to_pylist()):
            askers |= self._sessions
        given = [askers.keys() >= set(source) for source in sources]
        if table == "feedback":
            said = zip(given, rows["subject"].to_pylist(), sources, strict=True)
            given = [ok and (who not in self._silent or who == askers[source[0]]) for ok, who, source in said]
        return pa.array(given, pa.bool_())

    def _sources(self, table: str, rows: pa.Table) -> list[list[str]] | None:
        """The interactions behind each row, or its session; None for a table whose rows have none."""
        if "inference_ids" in rows.column_names:
            return rows["inference_ids"].to_pylist()
        if table == "feedback":
            pairs = zip(rows["inference_id"].to_pylist(), rows["session_id"].to_pylist(), strict=True)
            return [[answer or session] for answer, session in pairs]
        if "inference_id" in rows.column_names:
            return [[one] if one else [] for one in rows["inference_id"].to_pylist()]
        if table == "eval_results":
            cases = self._case_sources()
            return [[one] if (one := cases.get(case)) else [] for case in rows["case_id"].to_pylist()]
        if table == "judgements":  # of a case, or of an inference itself
            cases = self._case_sources()
            sources = [cases.get(item, item) for item in rows["item_id"].to_pylist()]
            return [[one] if one else [] for one in sources]
        return None

    def _askers(self, inference_ids: Collection[str]) -> dict[str, str]:
        """Of the interactions that may be used: id -> subject."""
        days: dict[str, set[str]] = {}
        for one in inference_ids:
            days.setdefault(partition_date(one, None), set()).add(one)
        return {
            one: known[one] for day, some in days.items() for known in [self._day(day)] for one in some & known.keys()
        }

    def _read_day(self, day: str) -> dict[str, str]:
        rows = self._lake.read("inferences", flow=self._flow, dates=[day], columns=_STATED)
        allowed = consented_ids(rows, self._statements, self._purpose, self._now)
        asked = zip(rows["inference_id"].to_pylist(), rows["subject"].to_pylist(), strict=True)
        return {one: asker for one, asker in asked if one in allowed}

    @cached_property
    def _sessions(self) -> dict[str, str]:
        """Sessions all of whose interactions may be used, and whose they are (nobody's, if several people's).

        From one pass, for a session may lie on any days.
        """
        seen, refused = dict[str, str](), set[str]()
        for rows in self._lake.scan("inferences", flow=self._flow, columns=[*_STATED, "session_id"]):
            allowed = consented_ids(rows, self._statements, self._purpose, self._now)
            columns = (rows[name].to_pylist() for name in ("session_id", "inference_id", "subject"))
            for session, answer, asker in zip(*columns, strict=True):
                if session and answer not in allowed:
                    refused.add(session)
                elif session:
                    seen[session] = asker if seen.get(session, asker) == asker else ""
        return {session: asker for session, asker in seen.items() if session not in refused}

    def _case_sources(self) -> Mapping[str, str | None]:
        cases = self._lake.read("eval_cases", flow=self._flow, columns=["case_id", "inference_id"])
        return dict(zip(cases["case_id"].to_pylist(), cases["inference_id"].to_pylist(), strict=True))


def _chosen(lake: Lake, table: str, flow: str, dataset: Manifest | None) -> Iterator[pa.Table]:
    """The table's rows in pieces; of a dataset, those it names, each once (datasets share examples)."""
    import pyarrow as pa

    wanted = _ids(dataset) if dataset else set[str]()
    for rows in lake.scan(table, flow=flow):
        if dataset is None:
            yield rows
            continue
        picked = []
        for example in rows["example_id"].to_pylist():
            picked.append(example in wanted)
            wanted.discard(example)
        yield rows.filter(pa.array(picked, pa.bool_()))


def _ids(dataset: Manifest) -> set[str]:
    return {row[0] for row in dataset.data["rows"]}


def _dataset(lake: Lake, name: str, flow: str) -> Manifest:
    known = {manifest.id: manifest for manifest in list_manifests(lake, "dataset", flow)}
    manifest = known.get(name.removeprefix("dataset/"))
    if manifest is None:
        near = difflib.get_close_matches(name, [*SCHEMAS, *known], n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UsageError(
            f"there is no table or dataset '{name}'.{hint} Tables: {', '.join(SCHEMAS)}; "
            f"datasets of {flow}: {', '.join(known) or 'none yet'}"
        )
    return manifest


def _by_suffix(out: Path) -> str:
    return "parquet" if out.suffix == ".parquet" else "jsonl"


def _one_of(what: str, value: str, known: Iterable[str]) -> Any:
    if value not in known:
        raise UsageError(f"there is no {what} '{value}'; known: {', '.join(known)}")
    return value
