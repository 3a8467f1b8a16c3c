"""A filter gets into force by a change of the configuration that a person asked for, with a reason that is kept.

The filter is written beside the configuration under its version, ``quality.filter_file`` is pointed at it, and a row
of ``decisions`` says who did it and why. The files are there to be reviewed and committed like any other change.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flywheel.config import FilterConfig, FlywheelConfig, dump, load
from flywheel.config.edit import with_filter_file
from flywheel.errors import ConfigError, UsageError
from flywheel.lake.manifests import Manifest, content_id, list_manifests
from flywheel.lake.tables import Lake
from flywheel.quality.filters_check import check_filter
from flywheel.records import Decision, utcnow
from flywheel.rollout.history import decisions
from flywheel.workflow.curation.compare import changes, effect
from flywheel.workflow.turns.provenance import SEARCHED
from flywheel.workflow.turns.steps import TurnHandle, turn_ids


def difference(lake: Lake, config: FlywheelConfig, file: Path) -> dict[str, Any]:
    """What ``flywheel filters diff`` prints; changes nothing.

    Raises:
        ConfigError: the file is no filter, or reads signals that nothing measures.
    """
    now, then = config.quality.filter, read_filter(file)
    measured = effect(lake, config, then)
    remarks = _remarks(lake, config)
    if measured is None:
        remarks = ["No scored turn can be read on this machine, so the rows are not counted.", *remarks]
    try:
        origin = searched(lake, config, then)
    except UsageError as error:
        origin, remarks = None, [str(error), *remarks]
    return {
        "current": now.version, "proposed": then.version, "file": str(file), "changes": changes(now, then),
        "effect": measured, "sweep": origin.ref if origin else None, "remarks": remarks,
    }  # fmt: skip


def adopt(
    lake: Lake, config: FlywheelConfig, file: Path, *, config_path: Path | None, reason: str, actor: str
) -> dict[str, Any]:
    """Put a filter into force for the next turn.

    The decision is stored first: a kill in between leaves one that was not carried out, and never a change that
    nobody answers for. The same command again goes on.

    Args:
        lake: where decisions are, and the sweeps' manifests.
        config: as it is in ``config_path``.
        file: the filter.
        config_path: the configuration that turns are run with.
        reason: why; kept.
        actor: who.

    Raises:
        UsageError: no reason, no configuration file, or the filter is not what its version says.
        ConfigError: the file is no filter, or the configuration cannot be changed by a program.
    """
    if not reason.strip():
        raise UsageError("Say why with --reason: it is kept with the decision.")
    if config_path is None:
        raise UsageError("No configuration file is in use, so nothing can be pointed at the filter: pass --config.")
    now, then = config.quality.filter, read_filter(file)
    origin = searched(lake, config, then)
    done = {"from": now.version, "to": then.version, "config": str(config_path), "remarks": _remarks(lake, config)}
    if then == now:
        return {**done, "changed": False, "file": str(config.quality.filter_file or ""), "decision": None}
    target = config_path.parent / "filters" / f"{then.version}.yaml"
    _check_version(now, then, target)
    text = config_path.read_text()
    changed = with_filter_file(text, str(target))
    decision = _record(lake, config, now, then, origin=origin, reason=reason, actor=actor)
    dump(then, target)
    _replace(config_path, changed)
    try:
        _check_in_force(config_path, target, then)
    except ConfigError:
        _replace(config_path, text)
        raise
    return {**done, "changed": True, "file": str(target), "decision": decision.decision_id}


def read_filter(file: Path) -> FilterConfig:
    """A filter file, checked against the signals that there are."""
    found = load(FilterConfig, file)
    check_filter(found, str(file))
    return found


def searched(lake: Lake, config: FlywheelConfig, wanted: FilterConfig) -> Manifest | None:
    """The manifest of the sweep that found a filter; None for one that a person wrote.

    Raises:
        UsageError: its version claims a sweep which this lake does not know, or which found something else. The
            gate would refuse every model made with it, because nobody could say which labels it was fitted to.
    """
    if not wanted.version.startswith(SEARCHED):
        return None
    found = [
        one for one in list_manifests(lake, "filter", config.flow) if one.data["best"]["version"] == wanted.version
    ]
    if not found:
        raise UsageError(
            f"No sweep of this flow found '{wanted.version}', so the gate could not tell which labels it was fitted "
            "to. Run `flywheel sweep` here, or give a filter written by hand a version of its own."
        )
    if FilterConfig.model_validate(found[-1].data["best"]) != wanted:
        raise UsageError(
            f"The filter was changed after the sweep that found '{wanted.version}': give it its own version."
        )
    return found[-1]


def _check_in_force(config_path: Path, target: Path, wanted: FilterConfig) -> None:
    if load(FlywheelConfig, config_path).quality.filter != wanted:
        raise ConfigError(f"{config_path} does not lead to the filter; write there: quality.filter_file: {target}")


def _check_version(now: FilterConfig, then: FilterConfig, target: Path) -> None:
    try:
        same = not target.exists() or load(FilterConfig, target) == then
    except ConfigError:
        same = False
    if then.version == now.version or not same:
        raise UsageError(
            f"There is another filter of version '{then.version}' ({target if not same else 'the one in force'}): "
            "give this one a version of its own."
        )
    if Path(then.version).name != then.version:
        raise UsageError(f"The version '{then.version}' cannot name a file: use letters, digits, '-', '_' and '.'.")


def _record(
    lake: Lake, config: FlywheelConfig, now: FilterConfig, then: FilterConfig, *, origin: Manifest | None, reason: str,
    actor: str,
) -> Decision:  # fmt: skip
    said = "; ".join(f"{one['setting']}: {one['now']} -> {one['then']}" for one in changes(now, then))
    text = f"filter {now.version} -> {then.version}: {reason} ({said})"
    before = [row for row in decisions(lake, config.flow) if row.action == "adopt_filter"]
    if before and (before[-1].text, before[-1].actor) == (text, actor):
        return before[-1]  # of a command that was killed: the filter in force is still the one it starts from
    identity = content_id("adopt", config.flow, before[-1].decision_id if before else None, text, actor)
    row = Decision(
        decision_id=identity, flow=config.flow, ts=utcnow(), action="adopt_filter", candidate=None, live=None,
        actor=actor, evidence=[origin.ref] if origin else [], text=text,
    )  # fmt: skip
    lake.append("decisions", [row], app=f"decisions/{config.flow}/{identity}", version=0)
    return row


def _remarks(lake: Lake, config: FlywheelConfig) -> list[str]:
    remarks: list[str] = []
    if config.sweep.in_turn:
        remarks.append(
            "sweep.in_turn is on: with enough tune labels a turn searches again, from this filter on. "
            "Switch it off to learn with exactly what was adopted."
        )
    last = turn_ids(lake.store, config.flow)[-1:]
    if last and TurnHandle(lake.store, config.flow, last[0]).read("finished") is None:
        remarks.append(
            f"{last[0]} is unfinished: finish it under the present configuration first, or abandon it (--new)."
        )
    return remarks


def _replace(path: Path, text: str) -> None:
    """The whole file or the old one, whatever dies in between; its permissions stay."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(path.stat().st_mode & 0o777)
    draft.replace(path)
