"""The ledger of erasures: tombstones, marks, and what follows from them along the lineage."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from flywheel.lake.erasures import bury, lines_without, mark_tainted, read_erasures, tainted_lineage, tombstones
from flywheel.lake.manifests import Manifest, write_manifest
from flywheel.lake.tables import Lake
from flywheel.records import utcnow

SECOND = timedelta(seconds=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def manifest(lake: Lake, kind: str, name: str, *parents: str) -> Manifest:
    made = Manifest(kind=kind, id=name, flow="f", code_version="1", config_hash="c", seed=0, parents=list(parents))
    write_manifest(lake, made)
    return made


def test_what_happened_before_is_covered_and_what_comes_after_is_not(lake: Lake):
    before = utcnow()
    stone = bury(lake.store, "acme", "s1")
    erasures = read_erasures(lake.store)
    assert erasures.covers("s1", before)
    assert erasures.covers("s1", stone.until)
    assert not erasures.covers("s1", stone.until + SECOND)
    assert not erasures.covers("s2", before)


def test_nobody_erased_covers_nobody(lake: Lake):
    erasures = read_erasures(lake.store)
    assert not erasures
    assert not erasures.covers("s1", utcnow())


def test_of_several_erasures_the_latest_counts(lake: Lake):
    stones = [bury(lake.store, "acme", "s1") for _ in range(3)] + [bury(lake.store, "other", "s2")]
    assert tombstones(lake.store, "acme", "s1") == stones[:3]
    assert tombstones(lake.store, "acme", "s2") == []
    assert read_erasures(lake.store).until == {"s1": stones[2].until, "s2": stones[3].until}


def test_a_mark_is_inherited_by_everything_made_of_it(lake: Lake):
    manifest(lake, "reward", "r1")
    dataset = manifest(lake, "dataset", "d1", "reward/r1", "inferences@12")
    manifest(lake, "model", "m0")
    manifest(lake, "model", "m1", "dataset/d1", "model/m0")
    manifest(lake, "model", "m2", "model/m1")
    assert tainted_lineage(lake, "model", "m2") == []
    assert mark_tainted(lake.store, dataset, rows=3)
    assert not mark_tainted(lake.store, dataset, rows=9)
    assert tainted_lineage(lake, "model", "m2") == ["dataset/d1"]
    assert tainted_lineage(lake, "model", "m0") == []
    assert tainted_lineage(lake, "reward", "r1") == []


def test_an_unknown_ancestry_is_not_a_clean_one(lake: Lake):
    mark_tainted(lake.store, manifest(lake, "dataset", "d1"), rows=1)
    manifest(lake, "model", "m1", "dataset/lost")
    assert tainted_lineage(lake, "model", "m1") is None
    assert tainted_lineage(lake, "model", "never-registered") is None


def test_lines_keep_their_bytes():
    data = b'{"id": 1,  "x": "a"}\n{"id":2}\n{"id": 3}'
    assert lines_without(lambda row: row["id"] == 2)(data) == (b'{"id": 1,  "x": "a"}\n{"id": 3}', 1)
    assert lines_without(lambda row: False)(data) == (data, 0)
    assert lines_without(json.dumps)(b"") == (b"", 0)
