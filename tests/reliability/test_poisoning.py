"""Attacks on the feedback: what survives quarantine, what honest people lose. All 36 cells with FLYWHEEL_LONG=1."""

import os

import poisoning
import pytest
from poisoning_world import ATTACKS, Settings

from flywheel.config import TrustConfig

LONG = bool(os.environ.get("FLYWHEEL_LONG"))
SMALL = 6_000
SHORT = [("praise", 0.04, 20), ("bury", 0.04, 20), ("paste", 0.04, 20), ("drip", 0.04, 1)]


@pytest.mark.parametrize(("attack", "share", "accounts"), SHORT)
def test_an_attack_leaves_little_and_costs_little(attack, share, accounts):
    row = poisoning.cell(Settings.of(SMALL), attack, share=share, accounts=accounts, seed=0, config=TrustConfig())
    poisoning.show(row)
    assert row["hostile"] == round(share * SMALL)
    assert row["met"], row


def test_without_quarantine_the_attack_is_in_the_dataset():
    row = poisoning.cell(
        Settings.of(SMALL), "paste", share=0.04, accounts=20, seed=0, config=TrustConfig(enabled=False)
    )
    assert row["survive"] == row["hostile"] == row["poisoned"]
    assert not row["met"]


def test_nobody_hostile_hardly_anything_lost():
    row = poisoning.cell(Settings.of(SMALL), None, share=0.0, accounts=0, seed=1, config=TrustConfig())
    poisoning.show(row)
    assert row["met"], row
    assert row["mistakes_out"] > 0.3  # the same rules take people's mistakes out where others know better


@pytest.mark.skipif(not LONG, reason="36 worlds of 100,000 rows take minutes; set FLYWHEEL_LONG=1")
@pytest.mark.parametrize("accounts", poisoning.ACCOUNTS)
@pytest.mark.parametrize("share", poisoning.SHARES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_every_cell_at_full_size(attack, share, accounts):
    row = poisoning.cell(
        Settings.of(poisoning.ROWS), attack, share=share, accounts=accounts, seed=0, config=TrustConfig()
    )
    assert row["met"], row
