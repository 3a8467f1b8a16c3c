"""Was anything trained on what models are tested with?"""

from __future__ import annotations

from typing import Annotated

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import print_json, progress_bar

FOUND = 3
"""Exit code where anything was found, so that a pipeline can stop."""


def contamination(
    dataset: Annotated[
        list[str] | None, typer.Option(help="A dataset's id, or a file of rows; repeat for several. Default: all.")
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option(help="A suite, or a file of cases; repeat for several. Default: all.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rows of datasets that overlap with cases of suites. Exit code 0: none, 3: found."""
    from flywheel.workflow.evaluations.contamination import find_contamination

    report = find_contamination(
        load_config(config, set_), datasets=dataset or (), suites=suite or (), progress=progress_bar(as_json)
    )
    if as_json:
        print_json({"clean": report.clean, **report.model_dump(mode="json")})
    else:
        for pair in report.pairs:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(pair.kinds.items()))
            found = f"{pair.contaminated_rows:,} rows overlap with {pair.contaminated_cases:,} cases ({kinds})"
            print(f"{pair.dataset} ({pair.rows:,} rows) against {pair.suite} ({pair.cases:,} cases): ", end="")
            print(found if pair.findings else "clean")
        if not report.clean:
            print("Which ones: the same command with --json.")
    raise typer.Exit(0 if report.clean else FOUND)
