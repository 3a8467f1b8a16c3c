"""The compounding of the demo: its table, its targets and its picture."""

import demo_turns
import results_file
from rich.console import Console

from flywheel.demo.rounds import Round
from flywheel.demo.traffic import TrafficReport
from flywheel.operate.render import rounds_table

SUITE = {"live": 0.5, "candidate": 0.7, "difference": 0.2, "interval": [0.1, 0.3], "fixed": 120, "newly_broken": 20,
         "n": 500}  # fmt: skip


def a_round(decision="promote", suites=None, seconds=600.0):
    turn = {"id": "turn-1", "decision": decision, "live": "m2", "metrics": {"suites": suites or {}}}
    traffic = TrafficReport(sent=100, right=53)
    return Round(turn, traffic, {}, TrafficReport(), None, seconds)


def test_a_round_tells_what_users_met_and_what_its_turn_fixed():
    told = a_round(suites={"random": SUITE}).summary()
    assert (told["right"], told["difference"], told["interval"]) == (0.53, 0.2, [0.1, 0.3])
    assert (told["net_fixes_per_1000"], told["seconds_to_fix"]) == (200.0, 600.0)


def test_what_was_not_promoted_fixed_nothing():
    told = a_round("reject", {"random": SUITE}, None).summary()
    assert (told["net_fixes_per_1000"], told["seconds_to_fix"]) == (0.0, None)
    assert "difference" not in a_round("inconclusive", seconds=None).summary()


def test_the_table_shows_every_round_even_one_without_an_evaluation():
    rows = [a_round(suites={"random": SUITE}).summary(), a_round("inconclusive", seconds=None).summary()]
    console = Console(width=80, record=True)
    console.print(rounds_table(rows))
    said = console.export_text()
    assert "50.0 > 70.0 %" in said
    assert "+20.0 [+10.0, +30.0]" in said
    assert "10.0" in said
    assert "inconclusive" in said


def test_targets_and_picture_of_rounds_with_and_without_a_fix(tmp_path):
    rows = [{"round": 1, **a_round(suites={"random": SUITE}).summary()},
            {"round": 2, **a_round("reject", {"random": SUITE}, None).summary()}]  # fmt: skip
    targets = demo_turns.targets(rows, {"fresh_traffic": {"right": 0.71}})
    assert [target["met"] for target in targets] == [True, True, True]
    results_file.write("demo-turns", 0, rows, targets, tmp_path)
    demo_turns.draw(rows, 0.71, tmp_path / "one.svg")
    demo_turns.draw(rows, 0.71, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    nothing = demo_turns.targets(rows[1:], {"fresh_traffic": {"right": 0.5}})
    assert [target["met"] for target in nothing] == [False, False, False]
    assert all(target["why_not"] for target in nothing)
