"""Guideline versions."""

from pathlib import Path

import pytest

from flywheel.errors import UsageError
from flywheel.lake.tables import Lake
from flywheel.review.guideline import Guideline, keep_guideline, read_guideline


def test_the_version_is_the_text(tmp_path: Path):
    file = tmp_path / "guide.md"
    file.write_text("Be strict.\n")
    first = read_guideline(file)
    file.write_text("Be strict.")
    assert read_guideline(file) == first
    file.write_text("Be kind.")
    assert read_guideline(file).version != first.version
    assert read_guideline(None) == Guideline("1", "")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"nothing\.md"):
        read_guideline(tmp_path / "nothing.md")


def test_texts_are_kept_under_their_version(tmp_path: Path):
    lake = Lake(str(tmp_path / "lake"))
    for version, text in (("g1", "one"), ("g2", "two"), ("1", "")):
        keep_guideline(lake, "f", Guideline(version, text))
    assert lake.store.list("labels/f/guidelines/") == ["labels/f/guidelines/g1.md", "labels/f/guidelines/g2.md"]
    assert lake.store.get("labels/f/guidelines/g2.md") == b"two"
