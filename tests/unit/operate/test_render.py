"""Tables of the terminal: what models, suites and people are called cannot draw on it."""

import io

import gate_reports
from rich.console import Console

from flywheel.operate.render import TerminalProgress, before_after_table, funnel_table, verdict_table

EVIL = "[red]x[/nothing]\x1b[2J\u202e"


def drawn(table):
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_hostile_names_stay_names():
    row = {"n": 3, "live": 0.1, "candidate": 0.2, "difference": 0.1, "interval": [0, 1], "fixed": 1, "newly_broken": 0}
    funnel = {"captured": 1, "dropped": {EVIL: 2}}
    reasons = [{"passed": None, "outcome": "wait", "name": EVIL, "text": EVIL}]
    for table in (
        before_after_table({"suites": {EVIL: row}}),
        funnel_table(funnel),
        verdict_table("continue", reasons),
    ):
        text = drawn(table)
        assert "[red]x[/nothing][U+001B][2J[U+202E]" in text
        assert "\x1b[2J" not in text
        assert "\u202e" not in text


def test_a_step_may_end_with_a_hostile_summary():
    console = Console(file=io.StringIO(), width=200)
    progress = TerminalProgress(console)
    progress.start("evaluate")
    progress.finish(f"{EVIL} 50.0% -> 60.0%")
    assert "[red]x[/nothing][U+001B][2J[U+202E] 50.0% -> 60.0%" in console.file.getvalue()


def test_what_waits_what_failed_and_what_is_not_known_look_different():
    for name, mark in (("promoted", "✓"), ("rejected", "✗"), ("waiting", "…")):
        conditions = [reason.model_dump(mode="json") for reason in getattr(gate_reports, name)().conditions]
        assert mark in drawn(verdict_table("reject", conditions))
