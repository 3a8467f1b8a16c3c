"""How cases look in a terminal, and in an editor."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence
from os import environ
from pathlib import Path
from typing import Any, Final

from flywheel.errors import UsageError
from flywheel.evaluation.lifecycle import CaseEdit
from flywheel.evaluation.mining import UNWRITTEN
from flywheel.evaluation.slices import question
from flywheel.records import Check, EvalCase

_STYLES: Final = {"proposed": "yellow", "active": "green", "retired": "dim"}
_ID, _CLUSTER, _QUESTION = 8, 16, 10
"""Characters of an id and of a cluster's name at the most, and of a question at the least."""
_HELP: Final = """\
# Change what is wrong and save; leave everything as it is to change nothing.
# check: kind is exact, normalised, json, contains, regex or another that `flywheel cases --help` names.
"""


def cases_table(found: Sequence[EvalCase], width: int) -> Any:
    """One line a case; cluster and question are cut so that it fits ``width`` characters."""
    from rich.table import Table
    from rich.text import Text

    rows = [
        (
            case.case_id.removeprefix("case-")[:_ID],
            case.suite,
            case.status,
            "" if case.priority is None else f"{case.priority:.1%}",
            (case.cluster or "")[:_CLUSTER],
            _short(case.check),
            " ".join(question(case.messages).split()),
        )
        for case in found
    ]
    names = ("case", "suite", "status", "traffic", "cluster", "check", "question")
    used = sum(max(map(len, column)) + 1 for column in zip(names[:-1], *(row[:-1] for row in rows), strict=True))
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name == "traffic" else "left", no_wrap=True)
    for *cells, asked in rows:
        # Texts come from users and models: shown as they are, never as markup.
        texts = [Text(cell, style=_STYLES.get(cell, "")) for cell in cells]
        short = Text(asked)
        short.truncate(max(_QUESTION, width - used - 1), overflow="ellipsis")
        table.add_row(*texts, short)
    return table


def suites_table(rows: Sequence[dict[str, Any]]) -> Any:
    """One line a suite; its frozen versions below it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False)
    for name in ("suite", "use", "active", "proposed", "retired"):
        table.add_column(name, justify="left" if name in {"suite", "use"} else "right")
    for row in rows:
        counts = (f"{row[status]:,}" for status in ("active", "proposed", "retired"))
        table.add_row(Text(row["suite"]), row["use"] or "", *counts)
        for name, count in row["frozen"].items():
            table.add_row(Text(f"  {name}", style="dim"), "frozen", f"{count:,}", "", "")
    return table


def print_case(console: Any, found: dict[str, Any]) -> None:
    """Everything about one case."""
    from rich.text import Text

    case = EvalCase.model_validate(found["case"])
    head = f"{case.case_id} v{case.version}  {case.suite}  {case.status}"
    if case.cluster is not None:
        head += f"  cluster '{case.cluster}', like {case.priority or 0:.1%} of the traffic"
    lines = [head, *(f"{message.role}: {message.content}" for message in case.messages), f"check: {_long(case.check)}"]
    if found["origin"]:
        origin = found["origin"]
        lines.append(f"answered by {origin['model']}: {origin['answer']}")
        lines += [
            f"  {event['kind']} {event['value'] if event['text'] is None else event['text']}"
            for event in origin["feedback"]
        ]
    groups = ", ".join(f"{name} {value}" for name, value in {"slice": case.slice, **case.slices}.items() if value)
    lines.append(f"reported under: {groups or 'its suite'}")
    lines += [
        f"v{row['version']}: {row['status']}, {row['suite']}, by {row['reviewer'] or 'flywheel'}"
        for row in found["versions"]
    ]
    console.print(Text("\n".join(lines)), soft_wrap=True)


def read_edit(path: Path) -> CaseEdit:
    """The changes that a YAML or JSON file states.

    Raises:
        UsageError: it cannot be read, or states something else.
    """
    import yaml
    from pydantic import ValidationError

    try:
        return CaseEdit.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read as YAML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UsageError(f"{path}, field '{'.'.join(map(str, first['loc']))}': {first['msg']}") from error


def edit_in_editor(case: EvalCase, path: Path) -> CaseEdit:
    """Open the case in ``$VISUAL`` or ``$EDITOR``; the changes. What was typed stays in the file.

    Raises:
        UsageError: there is no editor, it failed, or what it left is no case.
    """
    import yaml

    editor = environ.get("VISUAL") or environ.get("EDITOR")
    if not editor:
        raise UsageError("there is no $EDITOR; set it, or say what to change with options or --file")
    fields = case.model_dump(mode="json", include=set(CaseEdit.model_fields))
    fields["check"] = {name: value for name, value in fields["check"].items() if value is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HELP + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        done = subprocess.run([*shlex.split(editor), str(path)], check=False)
    except OSError as error:
        raise UsageError(f"the editor '{editor}' cannot be started ({error.strerror}); set $EDITOR") from error
    if done.returncode != 0:
        raise UsageError(f"the editor ended with code {done.returncode}, so nothing is changed")
    change = read_edit(path)
    same = {name for name in change.model_fields_set if getattr(change, name) == getattr(case, name)}
    return CaseEdit.model_validate(change.model_dump(exclude=same, exclude_unset=True))


def _short(check: Check) -> str:
    return "(none)" if check == UNWRITTEN else check.kind


def _long(check: Check) -> str:
    if check == UNWRITTEN:
        return "to be written"
    expected = check.expected if isinstance(check.expected, str) else json.dumps(check.expected, ensure_ascii=False)
    return f"{check.kind} {expected}"
