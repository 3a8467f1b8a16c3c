"""Every dataset against every suite: what a turn refuses to train on, and ``flywheel cases contamination``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from flywheel.config import FlywheelConfig
from flywheel.errors import ContaminationError, NotFoundInLakeError, UsageError
from flywheel.evaluation.cases import load_cases
from flywheel.evaluation.contamination import Finding, Row, Suites
from flywheel.lake.manifests import Manifest, content_id, list_manifests, read_manifest
from flywheel.lake.tables import Lake, open_lake
from flywheel.quality.curate import read_examples
from flywheel.records import EvalCase, Example, Record
from flywheel.telemetry import Progress, Silent
from flywheel.text.overlap import OverlapKind, conversation_texts
from flywheel.workflow.evaluations.comparison_files import cases_of_file, rows_of_file

_FOUND: Final[dict[str, list[Finding]]] = {}
_KEPT: Final = 4


class Pair(Record):
    """One dataset against one suite."""

    dataset: str
    suite: str
    rows: int
    cases: int
    contaminated_rows: int
    contaminated_cases: int
    kinds: dict[OverlapKind, int] = Field(description="findings of each kind")
    findings: list[Finding]


class ContaminationReport(Record):
    """All pairs that were compared."""

    pairs: list[Pair]

    @property
    def clean(self) -> bool:
        """Whether no row of any dataset overlaps with a case of any suite."""
        return not any(pair.findings for pair in self.pairs)


def overlapping(examples: Iterable[Example], cases: Iterable[EvalCase]) -> list[Finding]:
    """Every pair of an example and a case that ask the same.

    A turn asks this before training, before the shadow and at the gate, mostly of the same rows and cases: what was
    found of the last few is kept, by a hash of their whole content. Findings hold ids and no texts.
    """
    rows = [Row(example.example_id, conversation_texts(example.messages)) for example in examples]
    compared = list(cases)
    asked = [(case.suite, case.case_id, conversation_texts(case.messages)) for case in compared]
    key = content_id("overlap", [tuple(row) for row in rows], asked)
    found = _FOUND.get(key)
    if found is None:
        found = _FOUND[key] = list(Suites(compared, answers=False).find(rows))
        for old in list(_FOUND)[:-_KEPT]:
            _FOUND.pop(old, None)
    return list(found)


def refuse_contaminated(lake: Lake, config: FlywheelConfig, dataset_id: str, examples: Iterable[Example]) -> None:
    """Nothing is trained on what decides about the result.

    Raises:
        ContaminationError: names the examples, never the text.
    """
    findings = overlapping(examples, load_cases(lake, config.flow, config.decisive_suites()))
    if found := list(dict.fromkeys(finding.row_id for finding in findings)):
        raise ContaminationError(
            f"{len(found)} examples of {dataset_id} overlap with cases that decide about the model "
            f"({', '.join(found[:5])}): cases were added after the dataset was made. Start a new turn with --new; "
            f"`flywheel cases contamination --dataset {dataset_id}` lists them."
        )


def contamination_at_gate(lake: Lake, config: FlywheelConfig, dataset_id: str, run_id: str) -> int | None:
    """How many examples overlap with the cases that the verdict rests on.

    Those are the ones that the candidate answered in ``run_id``. Cases that were stored since say nothing about it.

    Returns:
        None where the examples are not all there any more.
    """
    try:
        examples = read_examples(lake, read_manifest(lake, "dataset", dataset_id, flow=config.flow))
    except NotFoundInLakeError:
        return None
    columns = ["run_id", "case_id", "case_version", "suite"]
    rows = lake.read("eval_results", flow=config.flow, columns=columns).to_pylist()
    decisive = {suite.partition("@")[0] for suite in config.decisive_suites()}
    answered = {
        (row["case_id"], row["case_version"])
        for row in rows
        if row["run_id"] == run_id and row["suite"].partition("@")[0] in decisive
    }
    every = lake.records("eval_cases", EvalCase, flow=config.flow)
    findings = overlapping(examples, [case for case in every if (case.case_id, case.version) in answered])
    return len({finding.row_id for finding in findings})


def find_contamination(
    config: FlywheelConfig,
    *,
    datasets: Sequence[str] = (),
    suites: Sequence[str] = (),
    progress: Progress | None = None,
) -> ContaminationReport:
    """Compare datasets with suites.

    Args:
        config: the flow.
        datasets: ids of curated datasets, or files of rows (see ``comparison_files``). None: all of the flow.
        suites: names of suites, or files of cases. None: all of the flow.
        progress: told about the rows.

    Raises:
        UsageError: there is no such dataset or suite, or nothing to compare.
        InputError: a line of a file holds no text.
    """
    progress = progress or Silent()
    lake = open_lake(config)
    cases = _cases(lake, config, suites)
    index = Suites(cases)
    sizes = Counter(case.suite for case in cases)
    pairs: list[Pair] = []
    for name, rows in _datasets(lake, config, datasets):
        progress.start("contamination", f"{name} against {len(cases):,} cases")
        counted = _Counted(rows, progress)
        findings = list(index.find(counted))
        progress.finish(f"{counted.rows:,} rows, {len({finding.row_id for finding in findings}):,} contaminated")
        pairs += [_pair(name, suite, counted.rows, sizes[suite], findings) for suite in sorted(sizes)]
    return ContaminationReport(pairs=pairs)


class _Counted:
    """A stream of rows that knows how many went by."""

    def __init__(self, rows: Iterable[Row], progress: Progress) -> None:
        self._source, self._progress, self.rows = rows, progress, 0

    def __iter__(self) -> Iterator[Row]:
        for row in self._source:
            self.rows += 1
            if self.rows % 1_000 == 0:
                self._progress.update(self.rows, None, "rows")
            yield row


def _pair(dataset: str, suite: str, rows: int, cases: int, findings: Sequence[Finding]) -> Pair:
    own = [finding for finding in findings if finding.suite == suite]
    return Pair(
        dataset=dataset,
        suite=suite,
        rows=rows,
        cases=cases,
        contaminated_rows=len({finding.row_id for finding in own}),
        contaminated_cases=len({finding.case_id for finding in own}),
        kinds=dict(Counter(finding.kind for finding in own)),
        findings=own,
    )


def _cases(lake: Lake, config: FlywheelConfig, names: Sequence[str]) -> list[EvalCase]:
    found: list[EvalCase] = []
    for name in names:
        own = list(cases_of_file(name, config)) if _is_file(name) else load_cases(lake, config.flow, [name])
        if not own:
            raise UsageError(f"the suite '{name}' has no cases, and there is no such file")
        found += own
    found = found or load_cases(lake, config.flow)
    if not found:
        raise UsageError("there are no cases to compare with; name a file of cases with --suite")
    return found


def _datasets(lake: Lake, config: FlywheelConfig, names: Sequence[str]) -> Iterator[tuple[str, Iterable[Row]]]:
    for name in names:
        if _is_file(name):
            yield name, rows_of_file(name, config)
        else:
            yield name, _rows_of(lake, read_manifest(lake, "dataset", name, flow=config.flow))
    if not names:
        manifests = list_manifests(lake, "dataset", config.flow)
        if not manifests:
            raise UsageError("no dataset was made yet; name a file of rows with --dataset")
        yield from ((manifest.id, _rows_of(lake, manifest)) for manifest in manifests)


def _rows_of(lake: Lake, manifest: Manifest) -> Iterable[Row]:
    return map(_row, read_examples(lake, manifest))


def _row(example: Example) -> Row:
    return Row(example.example_id, conversation_texts(example.messages, example.target))


def _is_file(name: str) -> bool:
    return name.startswith("s3://") or Path(name).exists()
