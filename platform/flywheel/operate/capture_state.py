"""What capture holds on this machine: for ``flywheel status``, and for ``flywheel down``, which ships the rest."""

from __future__ import annotations

from typing import Any

from flywheel.capture.corrupt import put_aside_before
from flywheel.capture.losses import DIED, read_losses
from flywheel.capture.outbox import outbox_folder
from flywheel.capture.ship import ship_once, unshipped
from flywheel.config import FlywheelConfig
from flywheel.errors import FlywheelError
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake


def capture_state(config: FlywheelConfig) -> dict[str, Any]:
    """Mode, events that wait for the lake, events lost by reason, damaged outboxes that wait for a person."""
    folder = outbox_folder(config)
    return {
        "mode": config.capture.mode,
        "unshipped": unshipped(folder),
        "lost": read_losses(folder, config.flow),
        "corrupt": [str(path) for path in put_aside_before(folder)],
    }


def ship_rest(config: FlywheelConfig) -> dict[str, Any]:
    """Ship what stopped replicas left. ``why`` says what kept the rest here; it is shipped at the next start."""
    folder, why = outbox_folder(config), None
    try:
        store = open_lake(config).store
        report = ship_once(folder, store, config.capture, Keyring(config.home_path()).check_belongs(store))
        why = "; ".join(report.failed.values()) or None
    except FlywheelError as error:
        why = str(error)
    return {"unshipped": unshipped(folder), "why": why}


def capture_lines(state: dict[str, Any]) -> list[str]:
    """What a person should know of it; empty when all is as it should be."""
    lines = []
    if state["mode"] == "off":
        lines.append("capture is off: nothing is recorded, no feedback is taken")
    if state["unshipped"]:
        lines.append(f"{state['unshipped']:,} events wait on this machine for the lake")
    lost = dict(state["lost"])
    if died := lost.pop(DIED, 0):
        lines.append(f"{died} replicas died in async mode with an unknown number of events")
    if lost:
        told = ", ".join(f"{reason} {events:,}" for reason, events in sorted(lost.items()))
        lines.append(f"lost in async mode: {told}")
    lines += [f"damaged, may hold acknowledged events: {path}" for path in state["corrupt"]]
    return lines
